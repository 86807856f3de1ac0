// Events by name, typed by a table from names to what comes with them.
/** Tells handlers of events. A handler that throws hinders neither the others nor the connection. */
export class Emitter {
    #handlers = new Map();
    /** Calls the handler for every event of that name; the function that is returned ends that. */
    on(name, handler) {
        const handlers = this.#handlers.get(name) ?? new Set();
        this.#handlers.set(name, handlers);
        handlers.add(handler);
        return () => void handlers.delete(handler);
    }
    /** The next event of that name. */
    once(name) {
        return new Promise((resolve) => {
            const off = this.on(name, (event) => {
                off();
                resolve(event);
            });
        });
    }
    emit(name, event) {
        for (const handler of [...(this.#handlers.get(name) ?? [])]) {
            try {
                handler(event);
            }
            catch (error) {
                // As if nobody had caught it, but behind what is done here.
                queueMicrotask(() => {
                    throw error;
                });
            }
        }
    }
}
