// The JSON dialect: everything over the socket.
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { Log } from './log.js';
import { Pulse } from './pulse.js';
import { Signals } from './signals.js';
/** A request was refused, or will not be answered any more. */
export class RequestError extends Error {
    code;
    retryAfterMs;
    constructor(code, message, retryAfterMs) {
        super(message);
        this.code = code;
        this.retryAfterMs = retryAfterMs;
        this.name = 'RequestError';
    }
}
const RETRIED = new Set(['rate_limited', 'unavailable']);
const MOST_TRIES = 8;
const RETRY_MS = 500;
/** `crypto.randomUUID` exists only on https and localhost; this works on any page. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
const keyOf = (topic, filters = {}) => `${topic} ${JSON.stringify(filters)}`;
/** A socket of the JSON dialect that survives its connections. */
export class JsonClient extends Emitter {
    /** What the server said of the session that is open now. */
    session;
    #connection;
    #options;
    #log;
    #asked = new Map();
    #subscriptions = new Map();
    /** Requests that repeat subscriptions on this connection. */
    #again = new Set();
    #signals;
    #pulse;
    #renewing;
    constructor(options) {
        super();
        this.#options = options;
        this.#log = new Log(options.after);
        this.#signals = new Signals(options.maxSignals ?? 32, options.signalsLastMs ?? 5000);
        const speech = {
            subprotocol: 'tidegate.json.v1',
            query: () => this.#query(),
            // Not in the URL: those are written to logs on the way.
            greet: (token) => this.#transmit('authenticate', { token }, newId()),
            hear: (text) => this.#hear(text),
            renew: (token) => this.#renew(token),
            lost: () => this.#lost(),
            changed: (state) => this.emit('state', state),
        };
        this.#connection = new Connection(options, speech);
        const gone = () => this.#connection.abandon('no answer in time');
        this.#pulse = new Pulse(() => void this.#transmit('ping', {}), gone);
    }
    get state() {
        return this.#connection.state;
    }
    /** The place in the user's log up to which entries were passed on; for `after` of a later client. */
    get position() {
        return this.#log.furthest('user');
    }
    connect() {
        this.#connection.connect();
    }
    /** Ends the connection for good; whoever waits for an answer is told so. */
    close() {
        this.#connection.close();
        const asked = [...this.#asked.values()];
        this.#asked.clear();
        for (const { reject } of asked)
            reject(new RequestError('closed', 'the client was closed'));
    }
    /** As `ask`, but gives what is said with the answer. */
    async request(type, payload, options = {}) {
        return (await this.ask(type, payload, options)).payload;
    }
    /**
     * Asks, and gives the answer. Is repeated under the same id until there is one, over any number of connections: the
     * server does it once. Refused with a `RequestError`.
     */
    ask(type, payload, options = {}) {
        const id = options.id ?? newId();
        return new Promise((resolve, reject) => {
            if (this.#asked.has(id)) {
                reject(new RequestError('conflict', 'a request with this id waits for its answer'));
                return;
            }
            if (this.#asked.size >= (this.#options.maxRequests ?? 1000)) {
                reject(new RequestError('queue_full', 'too many requests wait for their answers'));
                return;
            }
            const answered = resolve;
            const asked = { id, type, payload, tries: 0, isSent: false, resolve: answered, reject };
            this.#asked.set(id, asked);
            if (this.#isOpen())
                this.#ask(asked);
        });
    }
    /** Says something that matters only now: never repeated, and dropped where it cannot be said within moments. */
    signal(type, payload) {
        const text = JSON.stringify({ type, payload });
        if (!this.#isOpen() || !this.#connection.send(text))
            this.#signals.push(text);
    }
    /** Hears these topics from now on, also after reconnects, until `unsubscribe`. What is refused is not asked for again. */
    async subscribe(topics, filters) {
        for (const topic of topics) {
            this.#subscriptions.set(keyOf(topic, filters), { topics: [topic], ...(filters && { filters }) });
        }
        const reply = await this.request('subscribe', { topics, ...(filters && { filters }) });
        this.#forgetRefused(reply, filters);
        return reply;
    }
    /** What is refused for now is asked for again at the next connection. */
    #forgetRefused({ refused }, filters) {
        for (const { topic, userId, code } of refused) {
            if (!userId && !RETRIED.has(code))
                this.#subscriptions.delete(keyOf(topic, filters));
        }
    }
    /** As before the connection was lost; tried again like any request, while this one lasts. */
    #subscribeAgain({ topics, filters }) {
        const id = newId();
        this.#again.add(id);
        this.request('subscribe', { topics, ...(filters && { filters }) }, { id })
            .then((reply) => this.#forgetRefused(reply, filters))
            .catch((error) => {
            // As if it had come by itself: nobody waits for this answer.
            const { code, message } = error;
            if (code !== 'closed')
                this.emit('error', { type: 'error', payload: { code, message } });
        })
            .finally(() => this.#again.delete(id));
    }
    unsubscribe(topics, filters) {
        for (const topic of topics)
            this.#subscriptions.delete(keyOf(topic, filters));
        return this.request('unsubscribe', { topics, ...(filters && { filters }) });
    }
    /** Confirms everything up to an entry; of use with `ack: 'client'`. */
    ack({ topic, epoch, offset }) {
        if (topic !== 'conversation')
            this.#transmit('ack', { topic, epoch, offset });
    }
    #query() {
        const at = this.position;
        return {
            // Confirmed by this client or not: what was passed on need not come again. One that confirms
            // by itself wants what it has not confirmed.
            ...(at && this.#options.ack !== 'client' && { after: `${at.epoch}:${at.offset}` }),
            ...(this.#options.ack === 'client' && { ack: 'client' }),
        };
    }
    #isOpen() {
        return this.#connection.state.phase === 'open';
    }
    #transmit(type, payload, id) {
        return this.#connection.send(JSON.stringify({ type, ...(id && { id }), payload }));
    }
    #ask(asked) {
        const text = JSON.stringify({ type: asked.type, id: asked.id, payload: asked.payload });
        const most = this.session?.limits.frameBytes ?? Infinity;
        // The server would close the socket, at every try.
        if (new TextEncoder().encode(text).length > most) {
            this.#asked.delete(asked.id);
            return asked.reject(new RequestError('too_large', `a frame has at most ${most} bytes`));
        }
        asked.isSent = this.#connection.send(text);
        return undefined;
    }
    #renew(token) {
        if (!this.#isOpen())
            return false;
        this.#renewing = newId();
        return this.#transmit('authenticate', { token }, this.#renewing);
    }
    #hear(text) {
        this.#pulse.heard();
        let frame;
        try {
            frame = JSON.parse(text);
        }
        catch {
            return this.#connection.abandon('what came is not JSON');
        }
        this.emit('frame', frame);
        if (frame.type === 'auth.success') {
            return this.#connection.expires(frame.payload.expiresAt);
        }
        if (frame.type === 'auth.failed')
            return this.#refused(frame.payload, frame.replyTo);
        const asked = frame.replyTo === undefined ? undefined : this.#asked.get(frame.replyTo);
        if (asked)
            return this.#answered(asked, frame);
        if (frame.type === 'connected')
            this.#opened(frame.payload);
        if (frame.type === 'unsubscribed' && frame.replyTo === undefined)
            this.#lostRight(frame.payload);
        if (frame.type === 'server.draining') {
            this.#connection.draining(frame.payload.reconnectAfterMs);
        }
        // An answer that nobody waits for is no event.
        if (frame.replyTo !== undefined && frame.type !== 'error')
            return;
        if (frame.topic !== undefined && !this.#log.isNew(frame))
            return;
        this.emit(frame.type, frame);
    }
    #refused(refusal, replyTo) {
        // A node that cannot say is tried again, as is an open session whose token was not renewed.
        if (RETRIED.has(refusal.code))
            return this.#isOpen() ? undefined : this.#connection.abandon(refusal.message);
        if (this.#renewing !== undefined && replyTo === this.#renewing)
            return undefined;
        return this.#connection.refusedToken();
    }
    #answered(asked, frame) {
        const { type, payload } = frame;
        if (type !== 'error') {
            this.#asked.delete(asked.id);
            return asked.resolve(frame);
        }
        const { code, message, retryAfterMs } = payload;
        if (RETRIED.has(code) && asked.tries++ < MOST_TRIES) {
            asked.isSent = false;
            const wait = retryAfterMs ?? Math.random() * RETRY_MS * 2 ** asked.tries;
            setTimeout(() => {
                if (this.#asked.get(asked.id) === asked && this.#isOpen() && !asked.isSent)
                    this.#ask(asked);
            }, wait);
            return undefined;
        }
        this.#asked.delete(asked.id);
        return asked.reject(new RequestError(code, message, retryAfterMs));
    }
    #opened(session) {
        this.session = session;
        this.#log.resume(session.resumed);
        // Before anybody is told, who may close at once.
        this.#pulse.begin();
        this.#connection.opened();
        for (const wanted of this.#gathered())
            this.#subscribeAgain(wanted);
        for (const asked of this.#asked.values())
            if (!asked.isSent)
                this.#ask(asked);
        for (const text of this.#signals.drain())
            this.#connection.send(text);
    }
    /** A right was lost; who gets it back subscribes again. */
    #lostRight({ topics, filters }) {
        for (const topic of topics)
            this.#subscriptions.delete(keyOf(topic, filters));
    }
    /** Subscriptions with the same filters are one request. */
    #gathered() {
        const gathered = new Map();
        for (const { topics, filters } of this.#subscriptions.values()) {
            const key = keyOf('', filters);
            const known = gathered.get(key);
            gathered.set(key, { topics: [...(known?.topics ?? []), ...topics], ...(filters && { filters }) });
        }
        return [...gathered.values()];
    }
    #lost() {
        this.#pulse.end();
        this.#renewing = undefined;
        this.session = undefined;
        // The next connection asks for what is subscribed to then.
        for (const id of this.#again)
            this.#asked.delete(id);
        this.#again.clear();
        for (const asked of this.#asked.values())
            asked.isSent = false;
    }
}
