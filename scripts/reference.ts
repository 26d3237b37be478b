// Writes the tables of docs/reference/*.md from the doc comments of the interfaces they describe:
//   <!-- generated: src/config/config.ts ListenConfig -->  ...  <!-- /generated -->
import { globSync, readFileSync, writeFileSync } from 'node:fs';

const root = new URL('..', import.meta.url);
const BLOCK = /(<!-- generated: (\S+) (\w+) -->\n)[\s\S]*?(<!-- \/generated -->)/g;
const MEMBER =
  /^ {2}(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n {2})?(?:readonly )?(\w+)(\??)(:|\()((?:.|\n {3,}|\n {2}[)}])*?);$/gm;

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** The Markdown table of one interface of a source file that Biome has formatted. */
function tableOf(source: string, name: string): string {
  const body = new RegExp(`^export interface ${name}\\b[^{]*\\{\\n([\\s\\S]*?)^\\}`, 'm').exec(source)?.[1];
  if (body === undefined) throw new Error(`no interface ${name} to describe`);
  const missed = body
    .replace(MEMBER, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .trim();
  if (missed) throw new Error(`cannot read this in interface ${name}: ${missed}`);
  // What is only read has no required members; what is written has them beside optional ones.
  const hasOptional = /^ {2}\w+\?/m.test(body);
  const rows = [...body.matchAll(MEMBER)].map(([, comment = '', key, optional, kind, rest]) => {
    const type = oneLine(`${kind === '(' ? '(' : ''}${rest!.replace(/\/\*\*.*?\*\//g, '')}`).replaceAll('|', '\\|');
    const text = oneLine(comment.replace(/^\s*\* ?/gm, ' '))
      .replace(/@throws \{(\w+)\}/g, 'Throws `$1`')
      .replace(/@param (\w+)/g, '`$1`:')
      .replaceAll('@returns', 'Returns')
      .replaceAll('|', '\\|');
    return `| \`${key}\`${optional || !hasOptional ? '' : ' (required)'} | \`${type}\` | ${text} |`;
  });
  return ['| key | value | meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

/** The page with its tables as the sources have them now. */
export function withTables(page: string): string {
  return page.replace(BLOCK, (_all, open: string, file: string, name: string, close: string) => {
    return `${open}\n${tableOf(readFileSync(new URL(file, root), 'utf8'), name)}\n${close}`;
  });
}

/** Pages that hold tables, with their paths relative to the repository. */
export function referencePages(): { readonly path: string; readonly text: string }[] {
  return globSync('docs/reference/*.md', { cwd: root })
    .map(path => ({ path, text: readFileSync(new URL(path, root), 'utf8') }))
    .filter(({ text }) => text.includes('<!-- generated: '));
}

if (import.meta.main) {
  for (const { path, text } of referencePages()) writeFileSync(new URL(path, root), withTables(text));
}
