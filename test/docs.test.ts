import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { documents, inStep } from '../scripts/docs.ts';
import { parseConfig } from '../src/config/parse.ts';
import { readSource } from '../src/config/source.ts';

const root = new URL('..', import.meta.url);

test.each(documents())('$path has the tables and examples of the code', ({ path, text }) => {
  expect(inStep(text) === text, `${path} is out of date: run npm run docs`).toBe(true);
});

test.each(documents())('the links of $path lead to files', ({ path, text }) => {
  const targets = [...text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].map(match => match[1]!);
  const page = new URL(path, root);
  expect(targets.filter(target => !existsSync(new URL(target, page)))).toEqual([]);
});

test('every program in README.md is a file under examples/', () => {
  const { text } = documents().find(({ path }) => path === 'README.md')!;
  const blocks = [...text.matchAll(/^```(?:ts|js|yaml)\n(.*)$/gm)].map(match => match[1]!);
  expect(blocks.length).toBeGreaterThanOrEqual(4);
  expect(blocks.filter(firstLine => !/^(\/\/|#) examples\//.test(firstLine))).toEqual([]);
});

/** Addresses that are there, and names that are reserved for examples. */
const REAL =
  /^(?:[\w.-]+\.)?(?:rfc-editor\.org|ietf\.org|w3\.org|whatwg\.org|semver\.org|keepachangelog\.com|nodejs\.org)$/;
const RESERVED =
  /^(?:localhost|host|[\d.]+|[^.]+|.*\.(?:example|test|internal|invalid|localhost|local)|(?:.*\.)?example\.(?:com|net|org))$/;

test('no page and no field of package.json names an address that is not ours', () => {
  const { repository, homepage, bugs, author, funding } = JSON.parse(
    readFileSync(new URL('package.json', root), 'utf8'),
  );
  expect({ repository, homepage, bugs, author, funding }).toEqual({});
  const invented = documents().flatMap(({ path, text }) =>
    [...text.matchAll(/\b(?:https?|wss?|git|ssh):\/\/(?:[^\s/@"'`)<>|,]*@)?([a-z0-9.*-]*[a-z0-9])/gi)]
      .map(([, host]) => host!.replace(/^\*\./, ''))
      .filter(host => !REAL.test(host) && !RESERVED.test(host))
      .map(host => `${path}: ${host}`),
  );
  expect(invented).toEqual([]);
});

const configurations = documents().flatMap(({ path, text }) =>
  [...text.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map(match => ({ path, yaml: match[1]! })),
);

test.each(configurations)('a configuration in $path is valid', ({ path, yaml }) => {
  const { document, locate } = readSource(yaml, 'yaml', path);
  parseConfig(document, locate);
});

test('a page with a stale table or a stale example is noticed', () => {
  const stale = [
    '<!-- generated: src/config/config.ts LogConfig -->\n\n| key | value | meaning |\n\n<!-- /generated -->',
    '```yaml\n# examples/hello-gateway/holdfast.yaml\nlisten: []\n```',
  ];
  for (const page of stale) {
    expect(inStep(page)).not.toBe(page);
    expect(inStep(inStep(page))).toBe(inStep(page));
  }
});

/** Walks through the code: `file` `function` in each line of a list. */
function walks(text: string): { title: string; hops: { file: string; name: string }[] }[] {
  const section = /^## Three walks\n([\s\S]*?)^## /m.exec(text)![1]!;
  return section
    .split(/^### /m)
    .slice(1)
    .map(walk => ({
      title: walk.split('\n')[0]!,
      hops: [...walk.matchAll(/^\d+\. `([^`]+)` `([^`]+)`: /gm)].map(([, file, name]) => ({
        file: file!,
        name: name!,
      })),
    }));
}

const isThere = ({ file, name }: { file: string; name: string }): boolean => {
  const path = new URL(`src/${file}`, root);
  return (
    existsSync(path) &&
    new RegExp(`^(?:  )?(?:(?:export|async|readonly|function) )*${name}(?:\\(| = )`, 'm').test(
      readFileSync(path, 'utf8'),
    )
  );
};

test.each(walks(readFileSync(new URL('ARCHITECTURE.md', root), 'utf8')))(
  'the walk "$title" of ARCHITECTURE.md has at most ten hops, and each is there',
  ({ hops }) => {
    expect(hops.length).toBeGreaterThan(4);
    expect(hops.length).toBeLessThanOrEqual(10);
    expect(hops.filter(hop => !isThere(hop))).toEqual([]);
  },
);

test('a walk that leads nowhere is noticed', () => {
  expect(isThere({ file: 'gateway/admit.ts', name: 'admit' })).toBe(true);
  expect(isThere({ file: 'gateway/admit.ts', name: 'admitted' })).toBe(false);
  expect(isThere({ file: 'gateway/nowhere.ts', name: 'admit' })).toBe(false);
});
