// The client that gateways serve, in a browser: what the console does not use of it.

import assert from 'node:assert/strict';

/** In a page: hears by the events dialect what is said by REST. */
async function listen(other) {
  const { EventsClient } = await import('/client/index.js');
  const { token } = JSON.parse(sessionStorage.getItem('tidegate.session'));
  const rest = async (path, body) => {
    const headers = { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' };
    return (await fetch(`/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) })).json();
  };
  const { id } = await rest('/conversations', { type: 'GROUP', participantIds: [other], title: 'Signals' });
  const events = new EventsClient({ url: location.origin, token: () => token, device: 'events' });
  // The first batch is of nobody: it says that the subscription is in force.
  const present = new Promise((resolve) =>
    events.on('server.presence.batch', ({ data }) => data.users.length && resolve(data.users)),
  );
  const heard = new Promise((resolve) => events.on('server.messenger.message_new', ({ data }) => resolve(data)));
  events.subscribe([{ kind: 'conversation', id }, { kind: 'user', id: other }]);
  events.connect();
  const users = await present; // behind the answer to the subscription
  const said = await rest(`/conversations/${id}/messages`, { content: 'read me by REST' });
  const { messageId } = await heard;
  events.close();
  return { users, isSame: messageId === said.id };
}

/** In a page: a token that nobody accepts. */
async function refused() {
  const { EventsClient } = await import('/client/index.js');
  const reasons = [];
  const token = (reason) => {
    reasons.push(reason);
    return 'a.b.c';
  };
  const events = new EventsClient({ url: location.origin, token });
  const code = await new Promise((resolve) => {
    events.on('state', (state) => state.phase === 'closed' && resolve(state.code));
    events.connect();
  });
  return { code, reasons };
}

export const steps = {
  async 'a page that only listens hears signals, and who is there'({ alice, bob }) {
    const { users, isSame } = await alice.page.evaluate(listen, bob.id);
    assert.deepEqual(users, [{ userId: bob.id, status: 'online' }]);
    assert(isSame, 'the signal is about the message');
  },

  async 'a page sees that its token is not accepted'({ alice }) {
    const { code, reasons } = await alice.page.evaluate(refused);
    assert.equal(code, 4401);
    assert.deepEqual(reasons, ['connect', 'refused']);
  },
};
