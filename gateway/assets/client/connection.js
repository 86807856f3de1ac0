// One socket after the other: opens it, notices its end, waits, opens the next. Knows nothing of what is said on it.
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
export function pause(attempt, base, most, random = Math.random) {
    return random() * Math.min(most, base * 2 ** Math.min(attempt, 30));
}
export class Connection {
    state;
    #options;
    #urls;
    #speech;
    #socket;
    #timer;
    #renewal;
    #lasting;
    #attempt = 0;
    #url = 0;
    #refused = 0;
    /** When the token in use runs out, in milliseconds since 1970; Infinity while nobody said. */
    #runsOut = Infinity;
    /** When the node wants this client to come back, if it said so. */
    #comeBackAt = 0;
    /** Counts sockets, so that what belongs to an old one is known. */
    #round = 0;
    constructor(options, speech) {
        this.#options = options;
        this.#speech = speech;
        this.#urls = typeof options.url === 'string' ? [options.url] : options.url;
        if (!this.#urls.length)
            throw new TypeError('url: expected at least one');
        this.state = { phase: 'idle', url: this.#urls[0] };
    }
    connect() {
        if (this.state.phase === 'connecting' || this.state.phase === 'open')
            return;
        this.#attempt = this.#refused = 0;
        void this.#open('connect');
    }
    close() {
        this.#hangUp();
        this.#enter({ phase: 'idle' });
    }
    /** False if there is no socket to send on. */
    send(text) {
        if (this.#socket?.readyState !== 1)
            return false;
        this.#socket.send(text);
        return true;
    }
    /** The dialect says that the session is open. */
    opened() {
        clearTimeout(this.#timer);
        this.#lasting = setTimeout(() => {
            this.#attempt = this.#refused = 0;
        }, LASTING_MS);
        this.#enter({ phase: 'open' });
    }
    /** The node goes away, and wants this client back after that long. */
    draining(afterMs) {
        this.#comeBackAt = Date.now() + afterMs;
        clearTimeout(this.#timer);
        const round = this.#round;
        this.#timer = setTimeout(() => round === this.#round && this.#ended(DRAINING, 'draining'), afterMs);
    }
    /** The dialect says when the token runs out; what the caller said of it counts if that is earlier. */
    expires(at) {
        clearTimeout(this.#renewal);
        this.#runsOut = Math.min(typeof at === 'number' ? at : new Date(at).getTime(), this.#runsOut);
        const left = this.#runsOut - Date.now();
        if (!Number.isFinite(left))
            return;
        const wait = left > 0 ? Math.min(Math.max(left * RENEW_AT, 1000), LONGEST_TIMER_MS) : RENEW_BLINDLY_MS;
        this.#renewal = setTimeout(() => void this.#renew(), wait);
    }
    /** Nothing was heard for too long, or the dialect cannot go on: as if the socket had ended. */
    abandon(reason) {
        this.#ended(0, reason);
    }
    /** The dialect says that the token was not accepted. */
    refusedToken() {
        this.#ended(UNAUTHORIZED, 'token refused');
    }
    async #open(reason) {
        this.#hangUp();
        const round = this.#round;
        this.#enter({ phase: 'connecting' });
        let given;
        try {
            given = await this.#given(reason);
        }
        catch (error) {
            if (round === this.#round)
                this.#wait(0, `no token: ${String(error)}`);
            return;
        }
        if (round !== this.#round)
            return;
        const token = this.#take(given);
        const url = new URL('/api/ws', this.#urls[this.#url]);
        url.protocol = url.protocol.replace('http', 'ws');
        for (const [name, value] of Object.entries(this.#speech.query(token)))
            url.searchParams.set(name, value);
        if (this.#options.device)
            url.searchParams.set('device', this.#options.device);
        const socket = new (this.#options.WebSocket ?? WebSocket)(url, this.#speech.subprotocol);
        this.#socket = socket;
        this.#timer = setTimeout(() => this.#ended(0, 'no answer in time'), OPEN_WITHIN_MS);
        const ifCurrent = (handler) => (event) => {
            if (this.#socket === socket)
                handler(event);
        };
        socket.onopen = ifCurrent(() => this.#speech.greet(token));
        socket.onmessage = ifCurrent((event) => this.#speech.hear(String(event.data)));
        socket.onclose = ifCurrent((event) => this.#ended(event.code, event.reason));
    }
    async #given(reason) {
        let timer;
        const late = new Promise((_, reject) => {
            timer = setTimeout(() => reject(new Error('none was given in time')), TOKEN_WITHIN_MS);
        });
        try {
            return await Promise.race([this.#options.token(reason), late]);
        }
        finally {
            clearTimeout(timer);
        }
    }
    #take(token) {
        const { token: text, expiresAt = Infinity } = typeof token === 'string' ? { token } : token;
        this.#runsOut = Infinity;
        this.expires(expiresAt);
        return text;
    }
    async #renew() {
        const round = this.#round;
        try {
            const given = await this.#given('expiring');
            // A dialect that cannot be told uses the new one when it connects again.
            if (round === this.#round)
                this.#speech.renew(this.#take(given));
        }
        catch {
            // Again, when most of what is left has passed.
            if (round === this.#round)
                this.expires(this.#runsOut);
        }
    }
    #ended(code, reason) {
        if (code === UNAUTHORIZED) {
            this.#refused += 1;
            // A new token once, and at once; one that is refused again is a matter for people.
            if (this.#refused > 1)
                return this.#stop(code, reason);
            return void this.#open('refused');
        }
        if (FINAL.has(code))
            return this.#stop(code, reason);
        return this.#wait(code, reason);
    }
    #stop(code, reason) {
        this.#hangUp();
        this.#enter({ phase: 'closed', code, reason });
    }
    #wait(code, reason) {
        const base = BUSY.has(code) ? BUSY_BASE_MS : BASE_MS;
        const jitter = pause(this.#attempt++, base, this.#options.maxPauseMs ?? MAX_PAUSE_MS);
        const wait = this.#comeBackAt ? Math.max(this.#comeBackAt - Date.now(), 0) : jitter;
        this.#hangUp();
        this.#url = (this.#url + 1) % this.#urls.length;
        this.#timer = setTimeout(() => void this.#open('connect'), wait);
        this.#enter({ phase: 'waiting', code, reason, due: Date.now() + wait });
    }
    /** Forgets the socket at once: a dead peer would keep a closing one open for long. */
    #hangUp() {
        this.#round += 1;
        for (const timer of [this.#timer, this.#renewal, this.#lasting])
            clearTimeout(timer);
        this.#comeBackAt = 0;
        const socket = this.#socket;
        this.#socket = undefined;
        if (!socket)
            return;
        socket.close(1000);
        this.#speech.lost();
    }
    #enter(state) {
        this.state = { ...state, url: this.#urls[this.#url] };
        this.#speech.changed(this.state);
    }
}
