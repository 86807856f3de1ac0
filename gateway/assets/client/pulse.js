// What a platform does not notice by itself: a peer that is gone without a word.
/** Silence after which the node is asked for a sign, and how long it may take to give one. */
const QUIET_MS = 15_000;
const SIGN_WITHIN_MS = 10_000;
const TICK_MS = 1000;
export class Pulse {
    ask;
    gone;
    #heard = 0;
    #asked = 0;
    #next;
    /** `ask` makes the node say something; `gone` is called when it did not. */
    constructor(ask, gone) {
        this.ask = ask;
        this.gone = gone;
    }
    begin() {
        this.end();
        this.heard();
        this.#wait();
    }
    end() {
        clearTimeout(this.#next);
    }
    /** The node said something, whatever. */
    heard() {
        this.#heard = Date.now();
        this.#asked = 0;
    }
    #wait() {
        this.#next = setTimeout(() => this.#look(), TICK_MS);
    }
    #look() {
        this.#wait();
        const now = Date.now();
        if (this.#asked) {
            if (now - this.#asked > SIGN_WITHIN_MS)
                this.gone();
        }
        else if (now - this.#heard >= QUIET_MS) {
            this.#asked = now;
            this.ask();
        }
    }
}
