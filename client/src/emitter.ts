// Events by name, typed by a table from names to what comes with them.

/** Takes what comes with an event. */
export type Handler<T> = (event: T) => void;

/** Tells handlers of events. A handler that throws hinders neither the others nor the connection. */
export class Emitter<Events extends object> {
  readonly #handlers = new Map<keyof Events, Set<Handler<never>>>();

  /** Calls the handler for every event of that name; the function that is returned ends that. */
  on<K extends keyof Events>(name: K, handler: Handler<Events[K]>): () => void {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers);
    handlers.add(handler as Handler<never>);
    return () => void handlers.delete(handler as Handler<never>);
  }

  /** The next event of that name. */
  once<K extends keyof Events>(name: K): Promise<Events[K]> {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        off();
        resolve(event);
      });
    });
  }

  protected emit<K extends keyof Events>(name: K, event: Events[K]): void {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        (handler as Handler<Events[K]>)(event);
      } catch (error) {
        // As if nobody had caught it, but behind what is done here.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
