import { globSync, readdirSync, readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { beforeAll, describe, expect, test } from 'vitest';
import { schemaText } from '../../scripts/schema.ts';
import { readSource } from '../../src/config/source.ts';
import { problemsOf } from './problems-of.ts';

const root = new URL('../../', import.meta.url);
const text = readFileSync(new URL('holdfast.schema.json', root), 'utf8');

/** What an editor says of a document: the places that it marks. */
let marks: (document: unknown) => string[];
beforeAll(() => {
  const validate = new Ajv({ strict: false, allErrors: true }).compile(JSON.parse(text));
  marks = document => (validate(document) ? [] : validate.errors!.map(({ instancePath }) => instancePath));
});

const read = (yaml: string) => readSource(yaml, 'yaml', 'holdfast.yaml').document as object;

test('the schema for editors says what the code says; `npm run docs` writes it', () => {
  expect(schemaText()).toBe(text);
});

describe('an editor marks nothing in a configuration that can be used', () => {
  const goldens = new URL('test/config/golden/', root);
  const written = [
    ...readdirSync(goldens)
      .filter(name => !name.startsWith('json'))
      .map(name => [name, readFileSync(new URL(name, goldens), 'utf8').split('\n----------\n')[0]!] as const),
    ...globSync('examples/*/*.yaml', { cwd: root }).map(
      name => [name, readFileSync(new URL(name, root), 'utf8')] as const,
    ),
  ];
  const usable = written.flatMap(([name, yaml]) => {
    try {
      const document = read(yaml);
      return problemsOf(document).length === 0 ? [[name, document] as const] : [];
    } catch {
      return [];
    }
  });

  test('of which there are many here', () => {
    expect(usable.length).toBeGreaterThan(30);
  });

  test.each(usable)('%s', (_, document) => {
    expect(marks(document)).toEqual([]);
  });

  test('with variables of the environment, included files, anchors and the schema itself', () => {
    const document = read(
      '$schema: node_modules/holdfast/holdfast.schema.json\ninclude: conf.d/*.yaml\nx-any: { a: 1 }\nlisten: [{ port: "${PORT:-8080}", http2: "${HTTP2}" }]\n',
    );
    expect(marks(document)).toEqual([]);
  });
});

describe('an editor marks', () => {
  test.each([
    ['an unknown key', 'listen: [{ prt: 80 }]', '/listen/0'],
    ['a value that is none of those', 'session: { coherence: strickt }', '/session/coherence'],
    ['a port beyond the last', 'listen: [{ port: 70000 }]', '/listen/0/port'],
    ['text for a number', 'unusedConnections: many', '/unusedConnections'],
    ['a list for keys and values', 'upstreams: [app]', '/upstreams'],
    ['what is missing', 'upstreams: { app: {} }', '/upstreams/app'],
    [
      'a fault in a mounted application',
      'routes: [{ mount: /a, application: { routes: [{ path: 1 }] } }]',
      '/routes/0/application/routes/0/path',
    ],
  ])('%s', (_, yaml, place) => {
    expect(marks(read(yaml))).toContain(place);
  });
});

test('an editor says of each section what the reference says', () => {
  const { properties } = JSON.parse(text);
  expect(properties.headerTimeout.description).toMatch(/^Time a client may take to send its request head\./);
  expect(properties.listen.items.properties.port.description).toMatch(/^0 picks a free one\./);
});
