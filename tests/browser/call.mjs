// Two windows call each other: offer, answer and candidates go through Tidegate, by the client that gateways serve, and
// what they open with that goes from window to window.

import assert from 'node:assert/strict';

/** In the page: a client of its own beside that of the page, and a peer. */
async function prepare() {
  const { JsonClient } = await import('/client/index.js');
  const { token } = JSON.parse(sessionStorage.getItem('tidegate.session'));
  const client = new JsonClient({ url: location.origin, token: () => token, device: 'call' });
  const peer = new RTCPeerConnection();
  const test = { client, peer, heard: [], said: [] };
  globalThis.callTest = test;
  let behind = Promise.resolve();
  /** Candidates may come before what they are about was taken: everything in the order in which it came. */
  test.inOrder = (act) => {
    behind = behind.then(act).catch((error) => test.said.push(`error: ${error.message}`));
    return behind;
  };
  test.isOver = new Promise((resolve) => {
    client.on('call.ended', ({ payload }) => resolve(payload.reason));
  });
  client.on('call.ice', ({ payload: { candidate } }) => {
    test.heard.push('candidate');
    test.inOrder(() => candidate && peer.addIceCandidate(candidate));
  });
  /** From now on this side's candidates are told, those found before first. */
  const found = [];
  test.tellCandidates = (callId) => {
    const tell = (candidate) => client.request('call.ice', { callId, candidate: candidate?.toJSON() ?? null });
    for (const candidate of found.splice(0)) tell(candidate);
    peer.onicecandidate = ({ candidate }) => tell(candidate);
  };
  peer.onicecandidate = ({ candidate }) => found.push(candidate);
  await new Promise((resolve) => {
    client.on('connected', resolve);
    client.connect();
  });
}

/** In the page of who is called: answers, and repeats what comes over the channel. */
function wait() {
  const { client, peer, heard, inOrder, tellCandidates } = globalThis.callTest;
  peer.ondatachannel = ({ channel }) => {
    channel.onmessage = ({ data }) => channel.send(`${data}, too`);
  };
  client.on('call.incoming', ({ payload }) => heard.push(`incoming ${JSON.stringify(payload.media)}`));
  client.on('call.offer', ({ payload: { callId, sdp } }) => {
    heard.push('offer');
    inOrder(async () => {
      await peer.setRemoteDescription({ type: 'offer', sdp });
      await peer.setLocalDescription();
      await client.request('call.answer', { callId, sdp: peer.localDescription.sdp });
      tellCandidates(callId);
    });
  });
}

/** In the page of who calls: what came back over the channel. */
async function call(targetUser) {
  const test = globalThis.callTest;
  const { client, peer, heard, inOrder, tellCandidates } = test;
  const channel = peer.createDataChannel('test');
  const answer = new Promise((resolve, reject) => {
    channel.onopen = () => channel.send('hello');
    channel.onmessage = ({ data }) => resolve(data);
    peer.onconnectionstatechange = () => peer.connectionState === 'failed' && reject(new Error('the peers do not connect'));
  });
  client.on('call.answer', ({ payload: { sdp } }) => {
    heard.push('answer');
    inOrder(() => peer.setRemoteDescription({ type: 'answer', sdp }));
  });
  await peer.setLocalDescription();
  const offer = { targetUser, sdp: peer.localDescription.sdp, media: { data: true } };
  const { callId } = await client.request('call.offer', offer);
  tellCandidates(callId);
  const said = await answer;
  const { reason } = await client.request('call.hangup', { callId });
  return { said, reason, heard, errors: test.said };
}

export const steps = {
  async 'two windows speak to each other without the server, once it has brought them together'({ alice, bob }) {
    await Promise.all([alice.page.evaluate(prepare), bob.page.evaluate(prepare)]);
    await bob.page.evaluate(wait);
    const { said, reason, heard, errors } = await alice.page.evaluate(call, bob.id);
    assert.deepEqual(errors, []);
    assert.equal(said, 'hello, too');
    assert.equal(reason, 'hangup');
    assert(heard.includes('answer') && heard.includes('candidate'), `${heard}`);
    const other = await bob.page.evaluate(async () => {
      const { client, peer, heard: all, said: wrong, isOver } = globalThis.callTest;
      const why = await isOver;
      peer.close();
      client.close();
      return { why, all, wrong };
    });
    assert.deepEqual(other.wrong, []);
    assert.deepEqual(other.all.slice(0, 2), ['incoming {"data":true}', 'offer']);
    assert(other.all.includes('candidate'), `${other.all}`);
    assert.equal(other.why, 'hangup');
    await alice.page.evaluate(() => {
      globalThis.callTest.peer.close();
      globalThis.callTest.client.close();
    });
  },
};
