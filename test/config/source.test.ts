import { describe, expect, test } from 'vitest';
import { ConfigError } from '../../src/config/config-error.ts';
import { readSource } from '../../src/config/source.ts';

/** `line:column message` of each problem, or the document. */
function outcome(text: string, format: 'yaml' | 'json' = 'yaml'): unknown {
  try {
    return readSource(text, format, 'holdfast.yaml').document;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ line, column, message }) => `${line}:${column} ${message}`);
  }
}

const QUOTES = /put quotes around/;

describe('what YAML reads as something else than text is an error with its place, not another value', () => {
  test.each<[text: string, place: string, message: RegExp]>([
    // Tags: a value would be taken as it stands, or as an object that no setting is.
    ['name: !env SID', '1:7', /the tag "!env" is not understood.*environment/],
    ['a: 1\nb:\n  name: !secret x', '3:9', /the tag "!secret" is not understood/],
    ['a: !local { b: 1 }', '1:4', /the tag "!local"/],
    ['a: !local [1]', '1:4', /the tag "!local"/],
    ['a: !<tag:example.com,2000:x> y', '1:4', /the tag "tag:example.com,2000:x"/],
    ['!env x: 1', '1:1', /the tag "!env"/],
    ['path: !foo/bar', '1:7', QUOTES],
    ['a: !!binary aGk=', '1:4', /the tag "!!binary"/],
    ['a: !!timestamp 2020-01-01', '1:4', /the tag "!!timestamp"/],
    ['a: !!set { x, y }', '1:4', /the tag "!!set"/],
    ['a: !!omap [b: 1]', '1:4', /the tag "!!omap"/],
    ['a: !!pairs [b: 1]', '1:4', /the tag "!!pairs"/],
    ['a: !!python/object x', '1:4', /the tag "!!python\/object"/],
    ['a: !!float 5', '1:4', /"5" is not what the tag "!!float" says/],
    ['a: !!int five', '1:4', /"five" is not what the tag "!!int" says/],
    ['a: !!bool yes', '1:4', /"yes" is not what the tag "!!bool" says/],
    // Aliases and anchors.
    ['path: */foo', '1:7', /"\*\/foo" is read as an alias.*put quotes around/],
    ['a: 1\npath: [/a, *b]', '2:12', /"\*b" is read as an alias/],
    ['path: *', '1:7', QUOTES],
    ['*x : 1', '1:1', /"\*x" is read as an alias/],
    ['a: *x\nb: &x 1', '1:4', /"\*x" is read as an alias/],
    ['a: &x { b: *x }', '1:12', /"\*x" stands inside what it names/],
    ['path: &x', '1:9', /"&x" is read as the name of an anchor.*put quotes around/],
    ['b: { <<: 5 }', '1:10', /"<<" takes keys and values/],
    ['a: &x 5\nb: { <<: *x }', '2:10', /"<<" takes keys and values/],
    ['b: { <<: [{ k: 1 }, 5] }', '1:10', /"<<" takes keys and values/],
    ['b: { <<: *x }', '1:10', /"\*x" is read as an alias/],
    // Characters that begin something in YAML.
    ['path: @x', '1:7', QUOTES],
    ['path: `x', '1:7', QUOTES],
    ['path: %x', '1:7', QUOTES],
    ['%x: 1', '1:6', QUOTES],
    ['path: ,x', '1:7', QUOTES],
    ['path: {id}', '1:7', /a key has no value; put quotes around/],
    ['path: {/a/b, /c}', '1:7', QUOTES],
    ['path: /a: b', '1:7', QUOTES],
    ['listen: [{ port: ${PORT} }]', '1:18', /a variable between \[ \] or \{ \} needs quotes: "\$\{NAME\}"$/],
    ['a: [${A}, ${B}]', '1:5', /a variable between/],
    ['a:\n\tb: 1', '2:1', /tabs.*use spaces/],
    ['\ta: 1', '1:1', /tabs.*use spaces/],
    // Errors of the grammar.
    ['s:\n  store: memory:\n', '2:10', /^2:10 without quotes "memory:" is read as a key; write it with the quotes$/],
    ['s: { store: memory: }', '1:13', /without quotes "memory:" is read as a key/],
    ['a:\n  - b: 1\n   c: 2\n', '3:1', /this line is indented otherwise than those beside it; align them/],
    ['a:\n    b: 1\n  c: 2\n', '3:1', /this line is indented otherwise/],
    [
      'a: 1\n   b: 2\n',
      '1:4',
      /the next lines are indented as if they belonged to this value; align them with its key/,
    ],
    [' a: 1\nb: 2\n', '2:1', /cannot stand here.*another indentation/],
    ['a: [1, 2\nb: 2\n', '2:1', /the "\[" above is not closed; end it with "\]"/],
    ['a: { b: 1\nb: 2\n', '2:1', /the "\{" above is not closed; end it with "\}"/],
    ['a: "b', '1:6', /text that begins with " has no " at its end/],
    ['a: "c:\\dir"', '1:7', /"\\d" is not an escape; write "\\\\d", or single quotes/],
    ['a: [1]]', '1:7', /cannot stand here; look before it for a bracket/],
    ['a: { b: 1 c: 2 }', '1:9', /a "," is missing, or quotes/],
    ['a: ["b" "c"]', '1:9', /a "," is missing before this/],
    ['a: "b"#c', '1:7', /a comment needs a blank before its "#"/],
    ['a: 1\nb:2\nc: 3\n', '2:1', /this is not "key: value"; write the ":" with a blank behind it/],
    // Keys that are one key of an object.
    ['1: a\n"1": b', '2:1', /map keys must be unique: "1" is the same key as 1/],
    ['"true": a\ntrue: b', '2:1', /map keys must be unique/],
    ['&k a: 1\nb: { *k : 2, a: 3 }', '2:14', /map keys must be unique/],
    ['a: 1\na: 2', '2:1', /map keys must be unique: a stands twice/],
    // Numbers that are others, or that other readers take for others.
    ['port: 08', '1:7', /08 is read as 8, .*write 8, or/],
    [
      'mode: 0700',
      '1:7',
      /0700 is read as 700, and by other readers as an octal number; write 700, or the mode of a file in quotes: '0700'/,
    ],
    ['a: [1, -012]', '1:8', /-012 is read as -12/],
    ['a: 9007199254740993', '1:4', /9007199254740993 is read as 9007199254740992/],
    ['a: 1e999', '1:4', /1e999 is read as Infinity/],
    // Blanks that are none, and line ends.
    ['a:\u00a01', '1:1', /U\+00A0/],
    ['b:\n  port:\u20028080', '2:3', /U\+2002/],
    ['a: 1\rb: 2\r', '1:5', /carriage return/],
    // Merging.
    ['x: &x { a: 1 }\ny: &y { b: 1 }\nz:\n  <<: *x\n  <<: *y', '5:3', /"<<" stands twice.*"<<: \[\*a, \*b\]"/],
    ['1: a\n1: b', '2:1', /map keys must be unique/],
    // Keys that are no text.
    ['1.0: a', '1:1', /the key 1\.0 is read as 1; put quotes around it/],
    ['0x10: a', '1:1', /the key 0x10 is read as 16/],
    ['007: a', '1:1', /the key 007 is read as 7/],
    ['True: a', '1:1', /the key True is read as true/],
    ['.nan: a', '1:1', /the key \.nan is read as NaN/],
    ['~: a', '1:1', /the key ~ is read as nothing; put quotes around it/],
    ['null: a', '1:1', /the key null is read as nothing/],
    ['? \n: a', '1:3', /a key is missing/],
    [': a', '1:1', /a key is missing/],
    ['[a, b]: 1', '1:1', /a key is text, not a list/],
    ['? { a: 1 }\n: 2', '1:3', /a key is text, not keys and values/],
    ['__proto__: { a: 1 }', '1:1', /"__proto__" cannot be a key/],
    ['a: { __proto__: { b: 1 } }', '1:6', /"__proto__" cannot be a key/],
    // The document.
    ['a: 1\n---\nb: 2', '2:1', /the file holds several documents; keep one/],
    ['---\na: 1\n---\n', '3:1', /the file holds several documents/],
    ['a: 1\n...\nb: 2', '3:1', /the file holds several documents/],
    ['%YAML 1.1\n---\na: yes', '1:1', /YAML 1\.2.*remove the line/],
    ['%FOO\n---\na: 1', '1:1', /directive/],
  ])('%j: %s %s', (text, place, message) => {
    const problems = outcome(text) as string[];
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(new RegExp(`^${place} `));
    expect(problems[0]).toMatch(message);
  });

  test('a list among keys is called that', () => {
    expect((outcome('a:\n  b: 2\n  - 1\n') as string[])[0]).toMatch(/^3:1 a "-" stands among keys/);
  });

  test('all of them are reported together', () => {
    expect(outcome('a: !env X\nb: */c\n1: d\n"1": e\n')).toHaveLength(3);
  });
});

test.each<[text: string, document: unknown]>([
  [
    'a: !!str 5\nb: !!int "5"\nc: ! x\nd: !!map { e: 1 }\nf: !!seq [1]\ng: !!null ""',
    expect.objectContaining({ a: '5', b: 5, c: 'x', g: null }),
  ],
  ['a: &x { k: 1 }\nb: { <<: *x, j: 2 }\nc: { k: 3, <<: *x }', { a: { k: 1 }, b: { k: 1, j: 2 }, c: { k: 3 } }],
  ['b: { <<: [{ k: 1 }, { k: 2, l: 3 }] }', { b: { k: 1, l: 3 } }],
  ['a: &x 1\nb: *x\nc: &x 2\nd: *x', { a: 1, b: 1, c: 2, d: 2 }],
  [
    'path: /a/{id}\nb: x%y\nc: "*/foo"\nd: a@b\ne: {}\nf: { g: }',
    expect.objectContaining({ path: '/a/{id}', c: '*/foo' }),
  ],
  ['1: a\n2: b\ntrue: c\nyes: d', { 1: 'a', 2: 'b', true: 'c', yes: 'd' }],
  ['---\na: 1\n...\n', { a: 1 }],
  ['%YAML 1.2\n---\na: yes', { a: 'yes' }],
  ['\ufeffa: 1\r\nb: 2\r\n', { a: 1, b: 2 }],
  ['', {}],
  ['# nothing', {}],
  // Numbers by the core schema of YAML 1.2.
  [
    'b: 0o700\nc: 1_000\nd: 1e3\ne: .5\nf: NaN\ng: 12:30\nh: 0x1F\ni: 0.8\nj: 0b11',
    { b: 448, c: '1_000', d: 1000, e: 0.5, f: 'NaN', g: '12:30', h: 31, i: 0.8, j: '0b11' },
  ],
  [
    'a: yes\nb: on\nc: No\nd: True\ne: ~\nf: null\ng:',
    { a: 'yes', b: 'on', c: 'No', d: true, e: null, f: null, g: null },
  ],
  ['a: 2027-01-31', { a: '2027-01-31' }],
])('%j is understood', (text, document) => expect(outcome(text)).toEqual(document));

test('an anchor may be used as often as a configuration needs it', () => {
  const text = `a: &x { k: 1 }\nb:\n${'  - *x\n'.repeat(500)}`;
  expect((outcome(text) as { b: unknown[] }).b).toHaveLength(500);
});

test('aliases that would make an enormous document are an error with a place', () => {
  const levels = Array.from({ length: 9 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i}, `.repeat(9)}]`).join('\n');
  expect(outcome(`l0: &l0 [x]\n${levels}`)).toEqual([
    expect.stringMatching(/^\d+:\d+ aliases make the document too large/),
  ]);
});

describe('JSON', () => {
  test.each<[text: string, place: string, message: RegExp]>([
    ['{"a": 1, "a": 2}', '1:10', /map keys must be unique: "a" stands twice/],
    ['{"a": [9007199254740993]}', '1:8', /is read as 9007199254740992/],
    ['{"a": 1, "\\u0061": 2}', '1:10', /map keys must be unique/],
    ['{"b": [{"a": {"c": 1, "c": 2}}]}', '1:23', /map keys must be unique/],
    ['{"__proto__": {"a": 1}}', '1:2', /"__proto__" cannot be a key/],
    ['{"a": NaN}', '1:7', /not JSON/],
    ['{"a": 1,}', '1:9', /not JSON/],
    ["{'a': 1}", '1:2', /not JSON/],
    ['{"a": tru}', '1:7', /not JSON/],
    ['{"a": 1} {"b": 2}', '1:10', /not JSON/],
    ['{\n  "a": 1\n', '3:1', /not JSON/],
    ['', '1:1', /not JSON/],
  ])('%j: %s %s', (text, place, message) => {
    expect(outcome(text, 'json')).toEqual([expect.stringMatching(new RegExp(`^${place} .*${message.source}`))]);
  });

  test.each<[text: string, document: unknown]>([
    ['{"a": "!env x", "b": "*/foo", "<<": {"c": 1}}', { a: '!env x', b: '*/foo', '<<': { c: 1 } }],
    ['{\n\t"a": 1,\n\t"b": ["\\/", "\\u00e9"]\n}', { a: 1, b: ['/', 'é'] }],
    ['\ufeff{"a": 1}', { a: 1 }],
    ['{"1": "a", "01": "b", "null": 1, "": 2}', { 1: 'a', '01': 'b', null: 1, '': 2 }],
    [`{"${'k'.repeat(2000)}": 1}`, { ['k'.repeat(2000)]: 1 }],
  ])('%j is understood', (text, document) => expect(outcome(text, 'json')).toEqual(document));
});

test.each<['yaml' | 'json', string]>([
  ['yaml', `a: ${'['.repeat(50_000)}${']'.repeat(50_000)}`],
  ['yaml', `a: ${'['.repeat(200)}${']'.repeat(200)}`],
  ['json', `${'['.repeat(50_000)}${']'.repeat(50_000)}`],
  ['json', `${'{"a":'.repeat(200)}1${'}'.repeat(200)}`],
])('%s that is nested too deeply is an error, however deep', (format, text) => {
  expect(outcome(text, format)).toEqual([expect.stringMatching(/^1:\d+ .* stand in each other too deeply/)]);
});

test('a fault of JSON shows nothing of the file, and stands where it is', () => {
  expect(outcome('{"password": "hunter2", "a": [1,]}', 'json')).toEqual(["1:32 not JSON: Unexpected token ']'"]);
});

test('quotes keep what looks like another value', () => {
  const yaml = 'a: "0700"\nb: "9007199254740993"\nc: "x\u00a0y"\nd: 0o700\ne: 0\nf: 0.5\ng: |\n  a\u00a0b\n';
  const texts = { a: '0700', b: '9007199254740993', c: 'x\u00a0y', d: 448, e: 0, f: 0.5, g: 'a\u00a0b\n' };
  expect(outcome(yaml)).toEqual(texts);
});
