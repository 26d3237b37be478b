import { describe, expect, test } from 'vitest';
import { backtrackingFault } from '../../src/http/backtracking.ts';

describe('an expression is refused', () => {
  test.each([
    ['exponential', /^(a+)+$/],
    ['exponential', /(?:a|a)*b/],
    ['exponential', /^(?:(?:x+x+)+y)$/],
    ['exponential', /^(?:(a*)*b)$/],
    ['exponential', /^(?:(a|aa)+)$/],
    ['exponential', /^(?:(?:a|b|ab)*c)$/],
    ['exponential', /^(?:(?:.*)*)$/],
    ['exponential', /^(?:\w+\s?)*$/],
    ['exponential', /^(?:[a-z]{1,50}){1,50}$/],
    ['exponential', /^(?:(?:a|aa){30})$/],
    ['exponential', /^(?:[A-Z]+\w*)+$/],
    ['exponential', /^(?:(?:k|\u{212a})+x)$/iu],
    ['exponential', /^(?:(?:\p{L}|é)+x)$/u],
    ['exponential', /^(?:(?:[\p{L}--[a-z]]|É)+x)$/v],
    ['modifiers', /(?i:a|A)+b/],
    ['polynomial', /^(?:[a-z]+[a-z]+)$/],
    ['polynomial', /^(?:a*b?a*)$/],
    ['polynomial', /^(?:\d{1,3}\d{1,3})$/],
    ['polynomial', /.*a.*b/],
    ['polynomial', /^\s+|\s+$/],
    ['polynomial', /[a-z]+\d/],
    ['polynomial', /a*?b/],
    ['polynomial', /(?:ab)*c/],
    ['polynomial', /<script[^>]*>/i],
    ['polynomial', /\/\*[\s\S]*?\*\//],
    ['polynomial', /^a+b/m],
    ['polynomial', /a+$/],
    ['back-reference', /^(?:(a)\1)$/],
    ['back-reference', /(?<one>a)\k<one>/],
    ['lookaround', /^(?:(?=a*b)a)*$/],
    ['lookaround', /(?<!a+)b/],
    ['empty-repeat', /^(?:(?:a?){30}a{30})$/],
    ['empty-repeat', /^(?:(?:a*b?){2,9})$/],
    ['too-large', /^(?:[a-z]{200}){3}[0-9]{201}$/],
    ['too-large', /^[a-z]{401,}$/],
  ] as const)('as %s: %s', (fault, expression) => {
    expect(backtrackingFault(expression, false)).toBe(fault);
  });
});

describe('an expression is taken', () => {
  test.each([
    [/https:\/\/[a-z]+\.example\.com/],
    [/^(?:https:\/\/(?:[a-z0-9-]+\.)+example\.com)$/],
    [/^(?:(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+example\.com)$/],
    [/^(?:https?:\/\/(?:www\.)?[^.]+\.example\.(?:com|net)(?::\d+)?)$/],
    [/union\s+(?:all\s+)?select/i],
    [/(?:\.\.\/)+/],
    [/<script[^>]*/i],
    [/^(?:[^;]*;)*$/],
    [/(?:^|;)\s*a=/],
    [/(?:'|%27)\s*(?:or|and)\s+['\d]/i],
    [/^(?:[a-f0-9]{8}-(?:[a-f0-9]{4}-){3}[a-f0-9]{12})$/],
    [/^(?:(?:ab)*(?:ba)*)$/],
    [/^(?:a*?b*?c)$/],
    [/^a+b/],
    [/\bselect\b/i],
    [/(?=a)a(?!b)/],
    [/^(?:a?)*$/],
    [/^(?:(?:k|K)+x)$/],
    [/a{0}b/],
    [/^(?:(?:[^a]|A)+x)$/i],
    [/^[\s\S]{300}$/],
    [/(?:)/],
  ])('%s', expression => {
    expect(backtrackingFault(expression, false)).toBeUndefined();
  });

  test('on the whole of a text though not as a search', () => {
    expect(backtrackingFault(/[a-z]+\d/, true)).toBeUndefined();
    expect(backtrackingFault(/(?:ab)*c/, true)).toBeUndefined();
  });
});

test('what is refused as exponential really takes time that doubles, and what is taken does not', () => {
  const time = (expression: RegExp, text: string) => {
    const start = process.cpuUsage().user;
    expression.test(text);
    return process.cpuUsage().user - start;
  };
  expect(time(/^(?:(?:[A-Z]+\w*)+)$/, `${'A'.repeat(17)}!`)).toBeGreaterThan(200);
  expect(time(/^(?:(?:[A-Z]+\d*)*)$/, `${'A1'.repeat(20_000)}!`)).toBeLessThan(50_000);
});

test('a verdict takes no more than some tenths of a second, whatever the expression is', () => {
  const start = process.cpuUsage().user;
  expect(backtrackingFault(/^(?:[ab]{190}c)*(?:[ab]{190}d)*$/, false)).toBe('too-large');
  expect(process.cpuUsage().user - start).toBeLessThan(2_000_000);
});
