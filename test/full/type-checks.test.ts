import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { allExamples, DECLARATIONS } from '../doc-examples.ts';
import { DeclaredPackage } from './declared-package.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
let declared: DeclaredPackage;

// What sessions hold is declared for a whole program, so these programs lie outside the repository's own.
beforeAll(async () => {
  declared = await DeclaredPackage.emit();
});
afterAll(() => declared[Symbol.asyncDispose]());

/** Compiles a program of these files. Returns its errors, without those of other files than these. */
async function compile(
  name: string,
  files: Readonly<Record<string, string>>,
  existing: readonly string[] = [],
): Promise<string[]> {
  for (const [file, source] of Object.entries(files)) await writeFile(join(declared.folder, file), source);
  const output = await declared.compile(name, {
    extends: join(root, 'tsconfig.json'),
    files: [...Object.keys(files), ...existing],
    include: [],
    exclude: [],
    compilerOptions: { noUnusedLocals: false },
  });
  return output
    .split('\n')
    .filter(line =>
      [...Object.keys(files), ...existing.map(file => basename(file))].some(file => line.includes(`${file}(`)),
    );
}

/** The entries of the package that give a `SessionData` to declare. A program declares through one of them. */
const entries = ['holdfast', 'holdfast/session'];

const cart = (entry: string) => `
  import type { Session } from '${entry}';
  declare module '${entry}' {
    interface SessionData { 'shop:cart': string[]; theme: 'light' | 'dark' }
  }
  export const put = (session: Session, item: string) =>
    session.scope('shop').update('cart', cart => [...(cart ?? []), item]);
`;

test.each(entries)('what modules declare through %s holds for all of them, and for scopes', async entry => {
  const errors = await compile('agree', {
    'cart.ts': cart(entry),
    'orders.ts': `
      import type { Session } from 'holdfast/session';
      import { put } from './cart.ts';
      declare module '${entry}' {
        interface SessionData { 'shop:orders': Map<string, number>; theme: 'light' | 'dark' }
      }
      export async function order(session: Session): Promise<number> {
        const cart: readonly string[] = await put(session, 'pen');
        session.set('shop:orders', new Map([[cart[0]!, 1]]));
        session.set('theme', 'dark');
        return session.scope('shop').get('orders')?.size ?? 0;
      }
    `,
    'wrong.ts': `
      import type { Session } from 'holdfast';
      export function wrong(session: Session): void {
        session.set('theme', 'blue');
        session.get('shop:card');
        session.scope('shop').set('cart', 5);
        session.scope('shap');
      }
    `,
  });
  expect(errors).toEqual([
    expect.stringMatching(/^wrong\.ts\(4,30\): error TS2345: Argument of type '"blue"'/),
    expect.stringMatching(/^wrong\.ts\(5,21\): error TS2345: Argument of type '"shop:card"'/),
    expect.stringMatching(/^wrong\.ts\(6,43\): error TS2345: Argument of type 'number'/),
    expect.stringMatching(/^wrong\.ts\(7,23\): error TS2345: Argument of type '"shap"'/),
  ]);
});

test.each(entries)('two modules that declare one attribute differently do not compile: %s', async entry => {
  const errors = await compile('differ', {
    'cart.ts': cart(entry),
    'rival.ts': `
      import type {} from '${entry}';
      declare module '${entry}' {
        interface SessionData { 'shop:cart': Map<string, number>; other: number }
      }
    `,
  });
  expect(errors).toEqual([
    expect.stringMatching(/^rival\.ts\(4,33\): error TS2717: .* Property ''shop:cart'' must be of type 'string\[\]'/),
  ]);
});

test.each([
  ['sessions and of declared classes', '../types/session.test-d.ts'],
  ['endpoints', '../types/endpoint.test-d.ts'],
])('the types of %s are what test/types says', async (_what, types) => {
  const wrong = { 'sentinel.ts': 'export const wrong: string = 1;' };
  const errors = await compile('types', wrong, [fileURLToPath(new URL(types, import.meta.url))]);
  expect(errors).toEqual([expect.stringContaining('sentinel.ts(1,14): error TS2322')]);
});

test('the examples of the doc comments compile', async () => {
  const examples = allExamples();
  const programs = examples.map(({ code }, index) => [`example-${index}.ts`, `${code}\nexport {};\n`]);
  const files = { 'surroundings.ts': DECLARATIONS, ...Object.fromEntries(programs) };
  const sentinel = { 'sentinel.ts': "session.set('visits');\nexport {};\n" };
  const errors = await compile('examples', { ...files, ...sentinel });
  expect(errors).toEqual([expect.stringContaining('sentinel.ts(1,9): error TS2554')]);
});
