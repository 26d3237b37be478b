import { randomId } from '../../base/ids.ts';
import { THROUGH_HEADER } from '../../http/forwarded-headers.ts';
import { type Refusal, refuse } from '../../http/refusal.ts';
import type { RequestHead } from '../../http/request-head.ts';

/**
 * The last server on the way is the last one in the list. A client that writes into it can only have its own request
 * refused, and that only with a name that it must have seen at a backend.
 */
const LOWER = THROUGH_HEADER.toLowerCase();
const NONE: readonly string[] = [];
const INSTANCE = /^holdfast-[\w-]{16}$/;
/** Longer ways are refused too, or a list could grow for ever. */
const MAX_INSTANCES = 32;

/**
 * A name for one running server: the same one twice on the way of a request is a loop, two different ones are a chain.
 */
export function newInstanceName(): string {
  return `holdfast-${randomId(12)}`;
}

/** @returns 508 when the request has come through this server before. */
export function refuseLoop({ headers }: RequestHead, instance: string): Refusal | undefined {
  const through = instancesIn(headers[LOWER]);
  if (through.length < MAX_INSTANCES && !through.includes(instance)) return undefined;
  const reason = through.includes(instance)
    ? 'the request has come through this server before: an upstream leads to ourselves, directly or through others; remove it from the route'
    : `the request has come through ${MAX_INSTANCES} servers already`;
  return refuse(508, 'ERR_UPSTREAM_LOOP', reason);
}

/** What the next server gets to see: the way so far, and us. */
export function throughHeader({ headers }: RequestHead, instance: string): string {
  const before = headers[LOWER];
  return before === undefined ? instance : [...instancesIn(before), instance].join(', ');
}

function instancesIn(header: string | string[] | undefined): readonly string[] {
  if (header === undefined) return NONE;
  return String(header)
    .split(',')
    .map(name => name.trim())
    .filter(name => INSTANCE.test(name));
}
