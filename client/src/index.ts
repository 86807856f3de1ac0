export { pause, type Options, type Phase, type State, type Token, type TokenReason } from './connection.js';
export { EventsClient, type EventsTold } from './events.js';
export { JsonClient, RequestError, newId, type Frame, type JsonOptions, type JsonTold } from './json.js';
export type { Position } from './log.js';
export type * from './contracts.js';
