/**
 * When changes are written. `end-of-request`: before the response headers leave, behind a socket's messages. `manual`:
 * by `sync()` only. `{ everyMs }`: all that changed, together, that often. A new session, a new secret and an end are
 * written at once under each.
 *
 * Under `manual` and `{ everyMs }` the requests of one process share what is not written yet; what a process has not
 * written is lost with it.
 */
export type WriteFrequency = 'end-of-request' | 'manual' | { readonly everyMs: number };

/**
 * What a commit writes. `set`: what was changed. `get-and-set`: also what was read, for bytes that were changed in
 * place. `all`: every attribute; reading one is enough to write them all. Of those that lie apart what was loaded.
 *
 * What was read is written over what others have written meanwhile, as in WebSphere. Under a conflict policy other than
 * `last-wins` only changes are written, those in place included.
 */
export type WriteContents = 'set' | 'get-and-set' | 'all';

/** What is merged when two requests change the same attribute. */
export interface AttributeConflict {
  readonly name: string;
  /** What both began with; undefined: there was none, or it lies apart and was not loaded. */
  readonly base: unknown;
  /** What this commit would write; undefined: delete it. */
  readonly mine: unknown;
  /** What the other has written; undefined: has deleted it. */
  readonly theirs: unknown;
}

/**
 * What happens when an attribute that a commit changes was changed by somebody else since it was first changed here.
 * `last-wins`: it is overwritten. `reject`: nothing is written, ERR_SESSION_CONFLICT (409). A function returns the
 * merged value, which is tried as `update` does. Different attributes never conflict.
 */
export type ConflictPolicy = 'last-wins' | 'reject' | ((conflict: AttributeConflict) => unknown);
