import { describe, expect, test } from 'vitest';
import { VerifiedTokens } from '../../../src/policy/auth/tokens/verified-tokens.ts';

describe('verified tokens', () => {
  const tokenOf = (credential: string) => ({ claims: {}, name: 'alice', expiresAt: 1_000, credential });

  test('are found by exactly the bytes that were verified', () => {
    const tokens = new VerifiedTokens();
    const token = tokenOf('one');
    tokens.add('a.b.c', token, 1);
    expect(tokens.get('a.b.c', 1)).toBe(token);
    expect(tokens.get('a.b.d', 1)).toBeUndefined();
  });

  test('have one place each: of two spellings of one token the later one counts', () => {
    const tokens = new VerifiedTokens();
    tokens.add('a.b.c', tokenOf('one'), 1);
    tokens.add('a.b.d', tokenOf('one'), 1);
    expect(tokens.get('a.b.c', 1)).toBeUndefined();
    expect(tokens.get('a.b.d', 1)).toBeDefined();
    tokens.add('a.b.c', tokenOf('one'), 1);
    expect(tokens.get('a.b.c', 1)).toBeDefined();
    expect(tokens.get('a.b.d', 1)).toBeUndefined();
  });

  test('are forgotten when the keys change', () => {
    const tokens = new VerifiedTokens();
    tokens.add('a.b.c', tokenOf('one'), 1);
    expect(tokens.get('a.b.c', 2)).toBeUndefined();
    tokens.add('d.e.f', tokenOf('two'), 2);
    expect(tokens.get('a.b.c', 2)).toBeUndefined();
    expect(tokens.get('a.b.c', 1)).toBeUndefined();
  });

  test('are the latest 10,000', () => {
    const tokens = new VerifiedTokens();
    for (let i = 0; i < 12_000; i++) tokens.add(`token ${i}`, tokenOf(`id ${i}`), 1);
    expect(tokens.get('token 0', 1)).toBeUndefined();
    expect(tokens.get('token 11999', 1)).toBeDefined();
  });
});
