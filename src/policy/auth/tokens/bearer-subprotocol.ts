/**
 * By a subprotocol that begins so, a WebSocket's client shows a token: browsers cannot set headers of a handshake. A
 * server never selects it, as it would repeat the token.
 */
export const BEARER_SUBPROTOCOL_PREFIX = 'bearer.';

/**
 * What a client offers beside a token when the application has no subprotocol: browsers fail a handshake in which none
 * of those that they offered is selected.
 */
export const BEARER_SUBPROTOCOL = 'holdfast.bearer';
