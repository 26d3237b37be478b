import { existsSync, globSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { expect, test } from 'vitest';

const root = new URL('..', import.meta.url);
const packageJson: {
  exports: Record<string, string | { 'holdfast-source': string; types: string; default: string }>;
  imports: Record<string, { 'holdfast-source': string; default: string }>;
  bin: Record<string, string>;
  files: string[];
} = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));

const subpaths = Object.entries(packageJson.exports).flatMap(([subpath, target]) =>
  typeof target === 'string' ? [] : [[subpath, target] as const],
);

test('the exported values are the ones users build on', async () => {
  const names = Object.fromEntries(
    await Promise.all(
      subpaths.map(async ([subpath, target]) => {
        const module: object = await import(new URL(target['holdfast-source'], root).href);
        return [subpath, Object.keys(module).sort()];
      }),
    ),
  );
  expect(names).toMatchSnapshot();
});

test.each(subpaths)(
  '%s resolves to a source file, to its declarations and to the built program of its own name',
  (subpath, target) => {
    const source = target['holdfast-source'];
    expect(existsSync(new URL(source, root)), `${source} exists`).toBe(true);
    const built = source.replace('./src/', './dist/').replace(/\.ts$/, '');
    const name = subpath === '.' ? 'index' : posix.basename(subpath);
    expect(target).toMatchObject({ types: `${built}.d.ts`, default: `./dist/lib/${name}.js` });
  },
);

test('every source file named index.ts is a published subpath', () => {
  const published = subpaths.map(([, target]) => target['holdfast-source']);
  const found = globSync('src/**/index.ts', { cwd: root }).map(file => `./${file.replaceAll('\\', '/')}`);
  expect(found.filter(file => !published.includes(file))).toEqual([]);
});

test('the programs, the internal imports and the packed files exist', () => {
  const built = new Set(['dist']); // made by npm run build
  const named = [
    ...Object.values(packageJson.bin),
    ...Object.values(packageJson.imports).map(target => target['holdfast-source']),
    // `!`: what examples leave behind when they run.
    ...packageJson.files.filter(file => !built.has(file) && !file.startsWith('!')),
  ];
  expect(named.filter(file => !existsSync(new URL(file, root)))).toEqual([]);
});
