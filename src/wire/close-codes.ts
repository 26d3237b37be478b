/**
 * WebSocket close codes by name (RFC 6455 §7.4.1 and the IANA registry).
 *
 * `noStatus`, `abnormal` and `tlsHandshake` describe an ending to the application; they are never sent.
 */
export const CloseCode = {
  /** The application closed normally. */
  normal: 1000,
  /** The server or endpoint is stopping, or the browser leaves the page. Clients may reconnect. */
  goingAway: 1001,
  protocolError: 1002,
  /** The endpoint does not take this type of data, for example binary. */
  unsupportedData: 1003,
  /** The peer's close frame carried no code. Never sent. */
  noStatus: 1005,
  /** The connection ended without a close frame. Never sent. */
  abnormal: 1006,
  /** Text that is not UTF-8, or compressed data that does not inflate. */
  invalidData: 1007,
  /** Session ended, role lost, rate exceeded. Clients sign in again instead of reconnecting. */
  policyViolation: 1008,
  messageTooBig: 1009,
  /** Sent by clients only: an extension they need was not agreed. */
  mandatoryExtension: 1010,
  /** A handler failed. */
  internalError: 1011,
  serviceRestart: 1012,
  /** The peer reads too slowly, or the server is overloaded. */
  tryAgainLater: 1013,
  badGateway: 1014,
  /** TLS failed. Never sent. */
  tlsHandshake: 1015,
} as const;

/** Codes that a server closes WebSockets with and that its operator may change. */
export interface CloseCodes {
  /** Of connections to endpoints when the server stops, and of all whose route is gone. */
  goingAway: number;
  /** Where the client may come back at once. */
  restart: number;
  /** When a login has renewed the session of a WebSocket. */
  renewal: number;
  /** Of the client of a relay whose backend was lost. */
  lostBackend: number;
}

export const USUAL_CLOSE_CODES: Readonly<CloseCodes> = {
  goingAway: CloseCode.goingAway,
  restart: CloseCode.serviceRestart,
  renewal: CloseCode.serviceRestart,
  lostBackend: CloseCode.badGateway,
};

/** May this code stand in a close frame? RFC 6455 §7.4.1, §7.4.2; 1012-1014 from the IANA registry. */
export function isSendableCloseCode(code: number): boolean {
  if (!Number.isInteger(code)) return false;
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}
