import type { BrokenRule } from './fields.ts';

/**
 * The kinds of warnings. A code is part of what the product promises: scripts look for it, and configurations accept it.
 * Each has its section in `docs/reference/config-warnings.md`.
 */
export const WARNING_CODES = [
  // Settings that do nothing, or nothing of what they say.
  'no-effect',
  'unused',
  'nothing-served',
  'never-reached',
  'short-time',
  'accept-unused',
  // Who may come in.
  'wide-block',
  'every-address-trusted',
  'address-idle',
  'family-forgotten',
  'allowed-but-denied',
  'any-origin',
  'no-origin',
  'rebinding',
  'nobody-comes-in',
  'constraint-weakened',
  'protect-all-or-none',
  'round-a-stricter-route',
  'cross-site-sign-in',
  'bans-only-logged',
  'proxies-undeclared',
  'short-burst',
  'drop-stops-compression',
  // Sessions.
  'cookie-not-secure',
  'cookie-clash',
  'sessions-in-urls',
  'idle-after-absolute',
  'remembered-too-long',
  'sessions-of-others',
  'invented-ids',
  'sockjs-placeholder',
  'affinity-by-proxy',
  // How users show who they are.
  'user-twice',
  'weak-password-hash',
  'no-users',
  'any-audience',
  'token-cookie',
  'form-post-without-tls',
  'tokens-not-renewed',
  'page-clash',
  // Encryption.
  'self-signed',
  'certificate-over',
  'certificate-ends-soon',
  'certificate-not-begun',
  'revocation-list-over',
  'revocation-list-ends-soon',
  'revocation-list-missing',
  'unverified-tls',
  'transport-unreachable',
  'hsts-preload',
  // Backends.
  'request-loop',
  'internal-in-clear',
  'admin-in-clear',
  'assertion-keys-unreachable',
  'long-assertion',
  // The machine.
  'privileged-port',
  'address-not-here',
  'group-not-here',
  // What `check --probe` finds.
  'upstream-probe',
  'store-probe',
  'issuer-probe',
  'keys-probe',
] as const;

export type WarningCode = (typeof WARNING_CODES)[number];

export function isWarningCode(text: string): text is WarningCode {
  return (WARNING_CODES as readonly string[]).includes(text);
}

/** What is legal but will not do what was meant: where, what, and of which kind. */
export interface Doubt extends BrokenRule {
  readonly code: WarningCode;
}
