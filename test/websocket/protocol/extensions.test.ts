import { describe, expect, test } from 'vitest';
import { parseExtensions } from '../../../src/websocket/protocol/extensions.ts';
import { cpuTime } from '../../cpu-time.ts';

const read = (header: string) =>
  parseExtensions(header).map(extension => extension && [extension.name, Object.fromEntries(extension.params)]);

describe('parseExtensions', () => {
  test('reads elements and parameters in their order', () => {
    expect(read('a; x; y=1, b;z = "two"')).toEqual([
      ['a', { x: true, y: '1' }],
      ['b', { z: 'two' }],
    ]);
  });

  test('ignores empty elements and white space around everything', () => {
    expect(read('')).toEqual([]);
    expect(read(' , a ,,\tb\t; x ,')).toEqual([
      ['a', {}],
      ['b', { x: true }],
    ]);
  });

  test('does not split inside quotes and takes escapes out', () => {
    expect(read('a; x="1\\0"')).toEqual([['a', { x: '10' }]]);
    expect(read('a; x="1,2", b')).toEqual([undefined, ['b', {}]]);
    expect(read('a; x="1\\",b; y=";", c')).toEqual([undefined]);
  });

  test.each([
    ['a parameter twice', 'a; x; x'],
    ['a parameter twice with values', 'a; x=1; x=2'],
    ['an empty parameter', 'a;'],
    ['an empty parameter in between', 'a;; x'],
    ['an empty value', 'a; x='],
    ['an empty quoted value', 'a; x=""'],
    ['a quoted value that is not a token', 'a; x="1 2"'],
    ['a quote that is not closed', 'a; x="1'],
    ['two equal signs', 'a; x==1'],
    ['a name with a space', 'a b'],
    ['a name with a slash', 'a/b'],
    ['no name', '; x'],
    ['a character outside ASCII', 'a; x=é'],
  ])('leaves out an element with %s and keeps the next', (_what, header) => {
    const open = header.includes('"') && header.split('"').length % 2 === 0;
    expect(read(`${header}, b`)).toEqual(open ? [undefined] : [undefined, ['b', {}]]);
  });

  test('reads a long header without slowing down', () => {
    const header = 'a; x="\\"'.repeat(100_000);
    const took = cpuTime(() => {
      parseExtensions(header);
      parseExtensions('a; x=1,'.repeat(100_000));
    });
    expect(took).toBeLessThan(2_000);
  });
});
