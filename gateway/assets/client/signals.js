// What was said while nobody could hear it, and is worth saying only for a moment.
/** A bounded queue whose items go when it is full, the oldest first, and when they are old. */
export class Signals {
    most;
    lastMs;
    now;
    #items = [];
    constructor(most, lastMs, now = Date.now) {
        this.most = most;
        this.lastMs = lastMs;
        this.now = now;
    }
    push(item) {
        this.#items.push({ item, until: this.now() + this.lastMs });
        if (this.#items.length > this.most)
            this.#items.shift();
    }
    /** Takes out all that is still worth saying. */
    drain() {
        const now = this.now();
        const worth = this.#items.filter(({ until }) => until > now).map(({ item }) => item);
        this.#items = [];
        return worth;
    }
}
