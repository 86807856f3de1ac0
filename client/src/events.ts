// The events dialect: what is done is done by REST, and this only listens.

import { Connection, type Options, type Speech, type State } from './connection.js';
import type { EventsEvents, EventsSaid, EventTopic } from './contracts.js';
import { Emitter } from './emitter.js';
import { newId } from './json.js';
import { Pulse } from './pulse.js';
import { Signals } from './signals.js';

/** What a handler can be called for: every event of the server, and the state of the connection. */
export interface EventsTold extends EventsEvents {
  state: State;
  /** Any frame, as it came. */
  frame: { type: string; data: unknown; id?: string };
}

/** Whether that says that a subscription was dealt with: a batch, or the refusal of all of it. */
function answers({ type, data }: EventsTold['frame']): boolean {
  const refusesAll = () => ['bad_request', 'rate_limited'].includes(String((data as { code?: string }).code));
  return type === 'server.presence.batch' || (type === 'server.system.error' && refusesAll());
}

/**
 * A socket of the events dialect that survives its connections. It hears signals, and none that came while there was no
 * connection: after each `state` with `phase: 'open'` read by REST what may have been missed. From then on all that was
 * subscribed to is heard.
 */
export class EventsClient extends Emitter<EventsTold> {
  readonly #connection: Connection;
  readonly #signals: Signals<string>;
  readonly #pulse: Pulse;
  #topics: EventTopic[] = [];
  /** What was asked for at the beginning of this connection, and the name of that request. */
  #greeting: { id: string; topics: EventTopic[] } | undefined;
  /** The last request that only asks whether anybody is there. What answers it is no news. */
  #ping: string | undefined;

  constructor(options: Options) {
    super();
    this.#signals = new Signals(options.maxSignals ?? 32, options.signalsLastMs ?? 5000);
    const speech: Speech = {
      subprotocol: 'tidegate.events.v1',
      // A browser has no other place for it.
      query: (token) => ({ token }),
      greet: () => this.#greet(),
      hear: (text) => this.#hear(text),
      renew: () => false,
      lost: () => {
        this.#pulse.end();
        this.#greeting = this.#ping = undefined;
      },
      changed: (state) => this.emit('state', state),
    };
    this.#connection = new Connection(options, speech);
    // This dialect has no other word that is always answered.
    const ask = () => {
      this.#ping = this.#ask(this.#topics);
    };
    this.#pulse = new Pulse(ask, () => this.#connection.abandon('no answer in time'));
  }

  get state(): State {
    return this.#connection.state;
  }

  connect(): void {
    this.#connection.connect();
  }

  close(): void {
    this.#connection.close();
  }

  /** Hears these conversations and users from now on, also after reconnects, instead of those before. */
  subscribe(topics: EventTopic[]): void {
    this.#topics = topics;
    if (this.state.phase === 'open') this.#say('client.system.subscribe', { topics });
  }

  /** Says that this user types, or does no more; dropped where it cannot be said within moments. */
  typing(conversationId: string, isTyping: boolean): void {
    this.#signal('client.messenger.typing', { conversationId, isTyping });
  }

  #signal<K extends keyof EventsSaid>(type: K, data: EventsSaid[K]): void {
    if (this.state.phase !== 'open' || !this.#say(type, data)) this.#signals.push(this.#written(type, data));
  }

  #say<K extends keyof EventsSaid>(type: K, data: EventsSaid[K]): boolean {
    return this.#connection.send(this.#written(type, data));
  }

  #written<K extends keyof EventsSaid>(type: K, data: EventsSaid[K]): string {
    return JSON.stringify({ type, data, ts: Date.now() });
  }

  #greet(): void {
    const topics = this.#topics;
    this.#greeting = { id: this.#ask(topics), topics };
  }

  /** Subscribes under a name, which is answered. */
  #ask(topics: EventTopic[]): string {
    const id = newId();
    this.#connection.send(JSON.stringify({ type: 'client.system.subscribe', data: { topics }, ts: Date.now(), id }));
    return id;
  }

  #opened(asked: EventTopic[]): void {
    this.#greeting = undefined;
    // Before anybody is told, who may close at once.
    this.#pulse.begin();
    this.#connection.opened();
    // Somebody wanted something else meanwhile.
    if (this.#topics !== asked) this.#say('client.system.subscribe', { topics: this.#topics });
    for (const text of this.#signals.drain()) this.#connection.send(text);
  }

  #hear(text: string): void {
    this.#pulse.heard();
    let frame: EventsTold['frame'];
    try {
      frame = JSON.parse(text) as EventsTold['frame'];
    } catch {
      return this.#connection.abandon('what came is not JSON');
    }
    this.emit('frame', frame);
    if (this.#greeting && frame.id === this.#greeting.id && answers(frame)) this.#opened(this.#greeting.topics);
    if (this.#ping !== undefined && frame.id === this.#ping) return undefined;
    return this.emit(frame.type as keyof EventsTold, frame as never);
  }
}
