/** Client of the glrf speech emotion service, for browsers and Node.js. @module */
export { FLUSH, update } from "./commands.js";
export { BadServerMessage, ClientError, NoMicrophone, Refused, StreamClosed, StreamError, Unreachable, } from "./errors.js";
export { parseEvent, } from "./events.js";
export { analyzeFile, fetchToken, models, } from "./files.js";
export { microphone, MICROPHONE_RATE_HZ, } from "./microphone.js";
export { stream } from "./stream.js";
