/** How many entries an answer has at most, where the client does not say. */
export const USUAL_SESSIONS = 100;
export const USUAL_CONNECTIONS = 100;
/** Of what is small: bans, topics. */
export const USUAL_ENTRIES = 1_000;
