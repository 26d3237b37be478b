import type { CacheableResponse } from '../http/shared-caches.ts';

/** What a policy has to say in the headers of an answer, whoever gives it. */
export interface AnswerPolicy {
  /** Puts it into the headers of a backend's answer: name, value, name, value ... Changes the list. */
  putInto(headers: string[]): void;
  /** The same on a response of our own. */
  putOn(response: CacheableResponse): void;
}

/** Several as one; undefined when there is none. */
export function joinedAnswerPolicy(...policies: readonly (AnswerPolicy | undefined)[]): AnswerPolicy | undefined {
  const all = policies.filter(policy => policy !== undefined);
  if (all.length < 2) return all[0];
  return {
    putInto(headers) {
      for (const policy of all) policy.putInto(headers);
    },
    putOn(response) {
      for (const policy of all) policy.putOn(response);
    },
  };
}

/** The value of `Vary` with one more name. */
export function varyingBy(name: string, vary: unknown): string {
  const names = (Array.isArray(vary) ? vary.join(',') : String(vary ?? ''))
    .split(',')
    .map(one => one.trim())
    .filter(one => one !== '');
  if (names.some(one => one === '*' || one.toLowerCase() === name.toLowerCase())) return names.join(', ');
  return [...names, name].join(', ');
}
