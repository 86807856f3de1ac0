// The events dialect: what is done is done by REST, and this only listens.
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { Signals } from './signals.js';
/**
 * A socket of the events dialect that survives its connections. It hears signals, and none that came while there was no
 * connection: after each `state` with `phase: 'open'` read by REST what may have been missed.
 */
export class EventsClient extends Emitter {
    #connection;
    #signals;
    #topics = [];
    constructor(options) {
        super();
        this.#signals = new Signals(options.maxSignals ?? 32, options.signalsLastMs ?? 5000);
        const speech = {
            subprotocol: 'tidegate.events.v1',
            // A browser has no other place for it.
            query: (token) => ({ token }),
            greet: () => this.#opened(),
            hear: (text) => this.#hear(text),
            renew: () => false,
            lost: () => { },
            changed: (state) => this.emit('state', state),
        };
        this.#connection = new Connection(options, speech);
    }
    get state() {
        return this.#connection.state;
    }
    connect() {
        this.#connection.connect();
    }
    close() {
        this.#connection.close();
    }
    /** Hears these conversations and users from now on, also after reconnects, instead of those before. */
    subscribe(topics) {
        this.#topics = topics;
        if (this.state.phase === 'open')
            this.#say('client.system.subscribe', { topics });
    }
    /** Says that this user types, or does no more; dropped where it cannot be said within moments. */
    typing(conversationId, isTyping) {
        this.#signal('client.messenger.typing', { conversationId, isTyping });
    }
    #signal(type, data) {
        if (this.state.phase !== 'open' || !this.#say(type, data))
            this.#signals.push(this.#written(type, data));
    }
    #say(type, data) {
        return this.#connection.send(this.#written(type, data));
    }
    #written(type, data) {
        return JSON.stringify({ type, data, ts: Date.now() });
    }
    #opened() {
        this.#connection.opened();
        if (this.#topics.length)
            this.#say('client.system.subscribe', { topics: this.#topics });
        for (const text of this.#signals.drain())
            this.#connection.send(text);
    }
    #hear(text) {
        let frame;
        try {
            frame = JSON.parse(text);
        }
        catch {
            return this.#connection.abandon('what came is not JSON');
        }
        this.emit('frame', frame);
        return this.emit(frame.type, frame);
    }
}
