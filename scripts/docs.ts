// Keeps the documents in step with the code: writes the tables between
//   <!-- generated: src/config/config.ts ListenConfig --> and <!-- /generated -->
// from the doc comments of that interface (`ListenConfig and inherited`: also of those that it extends), and code blocks whose first line names a file of examples/ from that file.
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { posix } from 'node:path';
import { FINDINGS, type Finding } from '../src/cli/doctor/findings.ts';

const root = new URL('..', import.meta.url);
const TABLE = /(<!-- generated: (\S+) (\w+)( and inherited)? -->\n)[\s\S]*?(<!-- \/generated -->)/g;
const FINDINGS_LIST = /(<!-- generated: findings of holdfast doctor -->\n)[\s\S]*?(<!-- \/generated -->)/g;
const EXAMPLE = /^```(\w+)\n((?:\/\/|#) (examples\/\S+)\n)[\s\S]*?^```$/gm;
/** A member of an interface: its comment, name, `?`, and the rest. */
export const MEMBER =
  /^ {2}(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\n {2})?(?:readonly )?(\w+)(\??)(?:<.*>)?(:|\()((?:.|\n {3,}|\n {2}[)}])*?);$/gm;

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

function read(file: string): string {
  return readFileSync(new URL(file, root), 'utf8');
}

/** The Markdown table of one interface of a source file that Biome has formatted. */
function tableOf(file: string, name: string, withInherited: boolean): string {
  const rows = rowsOf(file, name, withInherited);
  return ['| key | value | meaning |', '|---|---|---|', ...rows, ''].join('\n');
}

/** What is inherited comes from an interface that the file imports; then what is required stands first. */
function rowsOf(file: string, name: string, withInherited: boolean): string[] {
  const source = read(file);
  const [, base, body] =
    new RegExp(`^export interface ${name}\\b(?: extends (\\w+))?[^{]*\\{\\n([\\s\\S]*?)^\\}`, 'm').exec(source) ?? [];
  if (body === undefined) throw new Error(`no interface ${name} to describe`);
  const missed = body
    .replace(MEMBER, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .trim();
  if (missed) throw new Error(`cannot read this in interface ${name}: ${missed}`);
  // What is only read has no required members; what is written has them beside optional ones.
  const hasOptional = /^ {2}\w+\?/m.test(body);
  const own = [...body.matchAll(MEMBER)].map(([, comment = '', key, optional, kind, rest]) => {
    const type = oneLine(`${kind === '(' ? '(' : ''}${rest!.replace(/\/\*\*.*?\*\//g, '')}`).replaceAll('|', '\\|');
    const text = proseOf(comment)
      .replace(/@throws \{(\w+)\}/g, 'Throws `$1`')
      .replace(/@param (\w+)/g, '`$1`:')
      .replaceAll('@returns', 'Returns')
      .replaceAll('|', '\\|');
    return `| \`${key}\`${optional || !hasOptional ? '' : ' (required)'} | \`${type}\` | ${text} |`;
  });
  const from = withInherited && base && new RegExp(`\\b${base}\\b[^;]*? from '(\\.[^']*)'`).exec(source)?.[1];
  if (!from) return own;
  const rows = [...own, ...rowsOf(posix.join(posix.dirname(file), from), base, true)];
  const isRequired = (row: string) => row.includes('` (required) |');
  return [...rows.filter(isRequired), ...rows.filter(row => !isRequired(row))];
}

/** What a doc comment says, without its examples: those are for editors, and a cell has no room for them. */
export function proseOf(comment: string): string {
  const [prose = ''] = comment.split(/^\s*\* @example$/m);
  return oneLine(prose.replace(/^\s*\* ?/gm, ' '));
}

/** What `holdfast doctor` may find, one heading each. */
function findingsList(): string {
  return Object.entries(FINDINGS as Readonly<Record<string, Finding>>)
    .map(([code, { cause, remedy, apache, nginx }]) => {
      const proxies = [apache && `Apache: ${apache}.`, nginx && `nginx: ${nginx}.`].filter(Boolean);
      return [`### \`${code}\``, '', cause, '', ...[remedy, ...proxies].map(line => `- ${line}`), ''].join('\n');
    })
    .join('\n');
}

/** The page with its tables and examples as the code has them now. */
export function inStep(page: string): string {
  return page
    .replace(
      TABLE,
      (_block, open: string, file: string, name: string, inherited: string | undefined, close: string) => {
        return `${open}\n${tableOf(file, name, inherited !== undefined)}\n${close}`;
      },
    )
    .replace(FINDINGS_LIST, (_block, open: string, close: string) => `${open}\n${findingsList()}\n${close}`)
    .replace(EXAMPLE, (_block, language: string, title: string, file: string) => {
      return `\`\`\`${language}\n${title}${read(file).trimEnd()}\n\`\`\``;
    });
}

/** The documents, with their paths relative to the repository. */
export function documents(): { readonly path: string; readonly text: string }[] {
  return globSync(['*.md', 'docs/**/*.md', 'examples/*/README.md'], { cwd: root })
    .sort()
    .map(path => ({ path, text: readFileSync(new URL(path, root), 'utf8') }));
}

if (import.meta.main) {
  for (const { path, text } of documents()) {
    const updated = inStep(text);
    if (updated !== text) writeFileSync(new URL(path, root), updated);
  }
}
