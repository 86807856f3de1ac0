// How far this client has come in the logs, and what it has seen there.
/** Entries that are remembered; a reconnect brings at most 256 of a log again. */
const MOST_SEEN = 4096;
const isBehind = (one, other) => one.epoch < other.epoch || (one.epoch === other.epoch && one.offset <= other.offset);
/** Tells new entries from those that came before. */
export class Log {
    #furthest = new Map();
    #seen = new Set();
    constructor(after) {
        if (after)
            this.#furthest.set('user', after);
    }
    furthest(topic) {
        return this.#furthest.get(topic);
    }
    /** The server takes the user's log up here, which need not be where this client thought. */
    resume(at) {
        this.#furthest.set('user', at);
    }
    /** Whether an entry is new. Of conversations each counts by itself, so there only the id tells. */
    isNew({ topic, id, epoch, offset }) {
        if (topic !== 'conversation') {
            const known = this.#furthest.get(topic);
            if (known && isBehind({ epoch, offset }, known))
                return false;
            this.#furthest.set(topic, { epoch, offset });
        }
        const name = `${topic} ${id}`;
        if (this.#seen.has(name))
            return false;
        this.#seen.add(name);
        if (this.#seen.size > MOST_SEEN)
            this.#seen.delete(this.#seen.values().next().value);
        return true;
    }
}
