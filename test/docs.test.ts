import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { documents, inStep } from '../scripts/docs.ts';
import { parseConfig } from '../src/config/parse.ts';
import { readSource } from '../src/config/source.ts';
import { createServer } from '../src/index.ts';
import { unprovenRows } from './proven-rows.ts';
import { testTitles } from './test-titles.ts';

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

test('the reference of a server names everything that a server has', () => {
  const { text } = documents().find(({ path }) => path === 'docs/reference/server.md')!;
  const table = text.slice(text.indexOf('| member | does |'), text.indexOf('A server lives once'));
  const named = Array.from(table.matchAll(/^\| `(\w+)/gm), ([, name]) => name!);
  const members = Object.getOwnPropertyNames(Object.getPrototypeOf(createServer({})));
  expect(members.filter(member => member !== 'constructor' && !named.includes(member))).toEqual([]);
});

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

test.each([
  'docs/guides/coming-from-websphere.md',
  'docs/guides/coming-from-weblogic.md',
  'docs/reference/security-examples.md',
  'docs/reference/troubleshooting.md',
])('each row of each table of %s names the tests that prove it', path => {
  expect(unprovenRows(readFileSync(new URL(path, root), 'utf8'))).toEqual([]);
});

test.each([
  ['names no test', '| b | c | |', 'b: names no test; write'],
  ['has no cell for one', '| b | c |', 'b: has 2 cells under 3 heads'],
  ['says it in other words', '| b | c | the tests of cookies |', 'b: cannot read the tests of cookies; write'],
  ['names a file that is not there', '| b | c | `a/b` "one" |', 'b: there is no test/a/b.test.ts'],
  ['names a title that is not there', '| b | c | `a` "On" |', 'b: test/a.test.ts has no test "On" that runs'],
  ['names a test that never runs', '| b | c | `a` "later" |', 'b: test/a.test.ts has no test "later" that runs'],
  ['names a describe', '| b | c | `a` "all" |', 'b: test/a.test.ts has no test "all" that runs'],
  ['names one of two', '| b | c | `a` "two" |', 'b: test/a.test.ts has 2 tests "two"; write the describe too'],
  [
    'names a good one and a wrong one',
    '| b | c | `a` "one"<br>`a` "x" |',
    'b: test/a.test.ts has no test "x" that runs',
  ],
])('a row of a guide that %s is noticed', (_, row, problem) => {
  const titles = testTitles(`
    test('one', () => {});
    test.skip('later', () => {});
    describe('all', () => test.each([1])('two', () => {}));
    describe('others', () => test('two', () => {}));
  `);
  const guide = (line: string) => `| a | b | test |\n|---|---|---|\n${line}\n`;
  const unproven = (line: string) => unprovenRows(guide(line), file => (file === 'a' ? titles : undefined));
  expect(unproven(row)).toEqual([expect.stringContaining(problem)]);
  expect(unproven('| b | c | `a` "all > two"<br>`a` "one" |')).toEqual([]);
});

test('a table of a guide without a column of tests is noticed', () => {
  expect(unprovenRows('text\n\n| a | b |\n|---|---|\n| c | d |\n')).toEqual(['a | b: the last column is not "test"']);
});

test('the titles of tests are read as they stand in a source', () => {
  const source = `
    test("it's one", async () => {});
    test.concurrent.each([[1]])('two %s', () => {});
    test.skipIf(missing)(\`three \${name}\`, () => {});
    describe.skipIf(missing).each([1])('four', value => {
      for (const wire of wires) test(\`over \${wire}\`, { timeout: 5 }, () => check('test', "test('no')"));
      describe('five', () => void test('six', () => {}));
    });
    describe.skip('seven', () => void test('eight', () => {}));
    const skip = test.skipIf(reason);
    skip(reason ?? 'nine', () => {});
    // test('ten', () => {});
    /x/.test('eleven');
  `;
  expect(testTitles(source).map(titles => titles.join(' > '))).toEqual([
    "it's one",
    'two %s',
    'three ${name}',
    'four > over ${wire}',
    'four > five > six',
    'nine',
  ]);
});
