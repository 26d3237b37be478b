import type { IncomingHttpHeaders } from 'node:http';
import type { RequestHead } from '../../src/http/request-head.ts';

/** A plain GET from an untrusted peer, with what the test is about changed. */
export function headWith(changes: Partial<RequestHead> & { headers?: IncomingHttpHeaders } = {}): RequestHead {
  return {
    method: 'GET',
    target: '/',
    path: '/',
    query: '',
    httpVersion: '1.1',
    headers: {},
    rawHeaders: [],
    host: 'example.com',
    peerAddress: '203.0.113.1',
    peerPort: 4711,
    isPeerTrusted: false,
    clientAddress: '203.0.113.1',
    isSecure: false,
    isSchemeKnown: false,
    isUpgrade: true,
    upgrade: undefined,
    urlTickets: [],
    clientCertificate: undefined,
    ...changes,
  };
}
