// One socket after the other: opens it, notices its end, waits, opens the next. Knows nothing of what is said on it.

/** A token, and when it runs out if the caller knows. */
export type Token = string | { token: string; expiresAt?: string | number | Date };

/** Why a token is asked for: to connect, for the one in use runs out soon, or for it was not accepted. */
export type TokenReason = 'connect' | 'expiring' | 'refused';

/** What every client needs to know. */
export interface Options {
  /** Where gateways are, for example `https://chat.example.org`; when one is lost, the next takes over. */
  url: string | readonly string[];
  /** Gives a token. Asked at every connect, before the token runs out, and when it was refused. */
  token: (reason: TokenReason) => Token | Promise<Token>;
  /** Whose place in the logs this is; an installation should keep its own. */
  device?: string;
  /** The `WebSocket` of the platform unless told otherwise. */
  WebSocket?: typeof WebSocket;
  /** Longest pause between two tries, in milliseconds; 20 000 unless told otherwise. */
  maxPauseMs?: number;
  /** Most signals kept while there is no connection; 32 unless told otherwise. */
  maxSignals?: number;
  /** How long such a signal is worth sending, in milliseconds; 5 000 unless told otherwise. */
  signalsLastMs?: number;
  /** Most requests that wait for their answers; 1 000 unless told otherwise. */
  maxRequests?: number;
}

/** `idle` before `connect` and after `close`; `closed` where it makes no sense to try again by oneself. */
export type Phase = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

/** What became of the connection. */
export interface State {
  phase: Phase;
  /** The gateway that is, was or will be tried. */
  url: string;
  /** The close code that brought it about; 0 if no answer came in time. */
  code?: number;
  reason?: string;
  /** While waiting: when the next try is due, in milliseconds since 1970. */
  due?: number;
}

/** After these, the same attempt would end the same way. */
const FINAL = new Set([1002, 1008, 4403, 4409]);
/** The node has too much to do: wait longer. */
const BUSY = new Set([1013, 4429]);
const UNAUTHORIZED = 4401;
const DRAINING = 1012;

const BASE_MS = 500;
const BUSY_BASE_MS = 2000;
const MAX_PAUSE_MS = 20_000;
/** Opening a socket and its session takes no longer, or the node counts as lost. */
const OPEN_WITHIN_MS = 10_000;
/** Only a session that lasted this long ends the row of failures. */
const LASTING_MS = 5000;
/** Tokens are renewed when this part of their time has passed. */
const RENEW_AT = 0.8;
/** A token that seems to have run out and is accepted: the clock here is wrong, and this has to do. */
const RENEW_BLINDLY_MS = 60_000;
/** Whoever gives tokens takes no longer, or there is none. */
const TOKEN_WITHIN_MS = 30_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Any wait up to a bound that doubles with each try, so that many clients do not come back as one wave. */
export function pause(attempt: number, base: number, most: number, random: () => number = Math.random): number {
  return random() * Math.min(most, base * 2 ** Math.min(attempt, 30));
}

/** What a dialect brings. */
export interface Speech {
  subprotocol: string;
  /** Parameters of the URL; the token is among them where the dialect has no other place for it. */
  query(token: string): Record<string, string>;
  /** The socket is open; says who this is, if that is said in the dialect. */
  greet(token: string): void;
  /** Takes the text of a frame. */
  hear(text: string): void;
  /** A token to go on with, on an open session; true if it was passed on. */
  renew(token: string): boolean;
  /** The socket is gone; what was on its way is not any more. */
  lost(): void;
  /** The connection is in another state. */
  changed(state: State): void;
}

export class Connection {
  state: State;
  readonly #options: Options;
  readonly #urls: readonly string[];
  readonly #speech: Speech;
  #socket: WebSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #renewal: ReturnType<typeof setTimeout> | undefined;
  #lasting: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #url = 0;
  #refused = 0;
  /** When the token in use runs out, in milliseconds since 1970; Infinity while nobody said. */
  #runsOut = Infinity;
  /** When the node wants this client to come back, if it said so. */
  #comeBackAt = 0;
  /** Counts sockets, so that what belongs to an old one is known. */
  #round = 0;

  constructor(options: Options, speech: Speech) {
    this.#options = options;
    this.#speech = speech;
    this.#urls = typeof options.url === 'string' ? [options.url] : options.url;
    if (!this.#urls.length) throw new TypeError('url: expected at least one');
    this.state = { phase: 'idle', url: this.#urls[0]! };
  }

  connect(): void {
    if (this.state.phase === 'connecting' || this.state.phase === 'open') return;
    this.#attempt = this.#refused = 0;
    void this.#open('connect');
  }

  close(): void {
    this.#hangUp();
    this.#enter({ phase: 'idle' });
  }

  /** False if there is no socket to send on. */
  send(text: string): boolean {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  /** The dialect says that the session is open. */
  opened(): void {
    clearTimeout(this.#timer);
    this.#lasting = setTimeout(() => {
      this.#attempt = this.#refused = 0;
    }, LASTING_MS);
    this.#enter({ phase: 'open' });
  }

  /** The node goes away, and wants this client back after that long. */
  draining(afterMs: number): void {
    this.#comeBackAt = Date.now() + afterMs;
    clearTimeout(this.#timer);
    const round = this.#round;
    this.#timer = setTimeout(() => round === this.#round && this.#ended(DRAINING, 'draining'), afterMs);
  }

  /** The dialect says when the token runs out; what the caller said of it counts if that is earlier. */
  expires(at: string | number | Date): void {
    clearTimeout(this.#renewal);
    this.#runsOut = Math.min(typeof at === 'number' ? at : new Date(at).getTime(), this.#runsOut);
    const left = this.#runsOut - Date.now();
    if (!Number.isFinite(left)) return;
    const wait = left > 0 ? Math.min(Math.max(left * RENEW_AT, 1000), LONGEST_TIMER_MS) : RENEW_BLINDLY_MS;
    this.#renewal = setTimeout(() => void this.#renew(), wait);
  }

  /** Nothing was heard for too long, or the dialect cannot go on: as if the socket had ended. */
  abandon(reason: string): void {
    this.#ended(0, reason);
  }

  /** The dialect says that the token was not accepted. */
  refusedToken(): void {
    this.#ended(UNAUTHORIZED, 'token refused');
  }

  async #open(reason: TokenReason): Promise<void> {
    this.#hangUp();
    const round = this.#round;
    this.#enter({ phase: 'connecting' });
    let given: Token;
    try {
      given = await this.#given(reason);
    } catch (error) {
      if (round === this.#round) this.#wait(0, `no token: ${String(error)}`);
      return;
    }
    if (round !== this.#round) return;
    const token = this.#take(given);
    const url = new URL('/api/ws', this.#urls[this.#url]);
    url.protocol = url.protocol.replace('http', 'ws');
    for (const [name, value] of Object.entries(this.#speech.query(token))) url.searchParams.set(name, value);
    if (this.#options.device) url.searchParams.set('device', this.#options.device);
    const socket = new (this.#options.WebSocket ?? WebSocket)(url, this.#speech.subprotocol);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#ended(0, 'no answer in time'), OPEN_WITHIN_MS);
    const ifCurrent = <E>(handler: (event: E) => void) => (event: E) => {
      if (this.#socket === socket) handler(event);
    };
    socket.onopen = ifCurrent(() => this.#speech.greet(token));
    socket.onmessage = ifCurrent((event: MessageEvent) => this.#speech.hear(String(event.data)));
    socket.onclose = ifCurrent((event: CloseEvent) => this.#ended(event.code, event.reason));
  }

  async #given(reason: TokenReason): Promise<Token> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('none was given in time')), TOKEN_WITHIN_MS);
    });
    try {
      return await Promise.race([this.#options.token(reason), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #take(token: Token): string {
    const { token: text, expiresAt = Infinity } = typeof token === 'string' ? { token } : token;
    this.#runsOut = Infinity;
    this.expires(expiresAt);
    return text;
  }

  async #renew(): Promise<void> {
    const round = this.#round;
    try {
      const given = await this.#given('expiring');
      // A dialect that cannot be told uses the new one when it connects again.
      if (round === this.#round) this.#speech.renew(this.#take(given));
    } catch {
      // Again, when most of what is left has passed.
      if (round === this.#round) this.expires(this.#runsOut);
    }
  }

  #ended(code: number, reason: string): void {
    if (code === UNAUTHORIZED) {
      this.#refused += 1;
      // A new token once, and at once; one that is refused again is a matter for people.
      if (this.#refused > 1) return this.#stop(code, reason);
      return void this.#open('refused');
    }
    if (FINAL.has(code)) return this.#stop(code, reason);
    return this.#wait(code, reason);
  }

  #stop(code: number, reason: string): void {
    this.#hangUp();
    this.#enter({ phase: 'closed', code, reason });
  }

  #wait(code: number, reason: string): void {
    const base = BUSY.has(code) ? BUSY_BASE_MS : BASE_MS;
    const jitter = pause(this.#attempt++, base, this.#options.maxPauseMs ?? MAX_PAUSE_MS);
    const wait = this.#comeBackAt ? Math.max(this.#comeBackAt - Date.now(), 0) : jitter;
    this.#hangUp();
    this.#url = (this.#url + 1) % this.#urls.length;
    this.#timer = setTimeout(() => void this.#open('connect'), wait);
    this.#enter({ phase: 'waiting', code, reason, due: Date.now() + wait });
  }

  /** Forgets the socket at once: a dead peer would keep a closing one open for long. */
  #hangUp(): void {
    this.#round += 1;
    for (const timer of [this.#timer, this.#renewal, this.#lasting]) clearTimeout(timer);
    this.#comeBackAt = 0;
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    socket.close(1000);
    this.#speech.lost();
  }

  #enter(state: Omit<State, 'url'>): void {
    this.state = { ...state, url: this.#urls[this.#url]! };
    this.#speech.changed(this.state);
  }
}
