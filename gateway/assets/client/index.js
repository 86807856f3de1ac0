export { pause } from './connection.js';
export { EventsClient } from './events.js';
export { JsonClient, RequestError, newId } from './json.js';
