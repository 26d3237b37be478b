import type { Refusal } from '../http/refusal.ts';
import type { RequestHead } from '../http/request-head.ts';

/** What a policy says: a refusal, or undefined for "go on". */
export type Decision = Refusal | undefined;

/** A rule over the facts of a request. It never throws and changes nothing. */
export type Policy = (head: RequestHead) => Decision;
