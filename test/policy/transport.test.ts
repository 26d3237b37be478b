import { expect, test } from 'vitest';
import { confidential } from '../../src/policy/transport.ts';
import { headWith } from './head.ts';

test('confidential takes a client that speaks TLS', () => {
  expect(confidential(headWith({ isSecure: true, isSchemeKnown: true }))).toBeUndefined();
});

test('confidential refuses a plain connection with 403', () => {
  expect(confidential(headWith())).toMatchObject({ allow: false, status: 403, code: 'ERR_POLICY_TRANSPORT' });
});
