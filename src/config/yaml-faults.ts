import {
  type Alias,
  type Document,
  isAlias,
  isCollection,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Node,
  Scalar,
  visit,
  type YAMLError,
  type YAMLMap,
} from 'yaml';

/** What is wrong in a YAML file, and the offset of the character where it stands. */
export interface YamlFault {
  readonly offset: number;
  readonly message: string;
}

const CORE = 'tag:yaml.org,2002:';
/** What the core schema (YAML 1.2 §10.3) knows, and what a value with such a tag is. */
const CORE_TAGS: Readonly<Record<string, (value: unknown) => boolean>> = {
  [`${CORE}str`]: value => typeof value === 'string',
  [`${CORE}int`]: value => typeof value === 'number',
  [`${CORE}float`]: value => typeof value === 'number',
  [`${CORE}bool`]: value => typeof value === 'boolean',
  [`${CORE}null`]: value => value === null,
  [`${CORE}map`]: () => true,
  [`${CORE}seq`]: () => true,
};

const OTHER_INDENT = 'this line is indented otherwise than those beside it; align them';

/** Errors of the grammar in words of ours, with what to do, by their code; `at` is the line from where they stand. */
const GRAMMAR: Readonly<Record<string, (at: string, message: string) => string | undefined>> = {
  BAD_ALIAS: () => 'a "*" begins an alias, and its name is missing; put quotes around the text',
  BAD_DQ_ESCAPE: at =>
    `"${at.slice(0, 2)}" is not an escape; write "\\${at.slice(0, 2)}", or single quotes around the text`,
  BAD_INDENT(_, message) {
    const bracket = /end with a ([\]}])/.exec(message)?.[1];
    if (bracket === undefined) return OTHER_INDENT;
    return `the "${bracket === ']' ? '[' : '{'}" above is not closed; end it with "${bracket}"`;
  },
  BAD_SCALAR_START: at => `text cannot begin with "${at.charAt(0)}"; put quotes around the text`,
  BLOCK_AS_IMPLICIT_KEY(at) {
    if (at.trimStart().startsWith('- ')) return 'a "-" stands among keys; write the list below a key of its own';
    if (!HAS_COLON.test(at))
      return 'the next lines are indented as if they belonged to this value; align them with its key';
    return unquotedStore(at) ?? 'text that contains ": " or ends with ":" is read as a key; put quotes around the text';
  },
  BLOCK_IN_FLOW: at =>
    unquotedStore(at) ?? 'between { } or [ ] a "," is missing, or quotes around text that contains ":"',
  MISSING_CHAR(_, message) {
    const closing = /closing (.)quote/.exec(message)?.[1];
    if (closing !== undefined) return `text that begins with ${closing} has no ${closing} at its end; write it`;
    if (message.includes('- indicator')) return OTHER_INDENT;
    if (message.startsWith('Missing ,')) return 'a "," is missing before this; write it';
    if (message.startsWith('Comments'))
      return 'a comment needs a blank before its "#"; write it, or quotes around the text';
    if (message.includes('followed by map values')) return 'a key needs a ":" and a value; write them';
    return undefined;
  },
  MULTIPLE_DOCS: () => 'the file holds several documents; keep one',
  MULTILINE_IMPLICIT_KEY: () =>
    'this is not "key: value"; write the ":" with a blank behind it, in one line with its key',
  TAB_AS_INDENT: () => 'tabs are not allowed as indentation; use spaces',
  UNEXPECTED_TOKEN: () =>
    'this cannot stand here; look before it for a bracket or a quote too many, or another indentation',
};

const HAS_COLON = /:(?:\s|$)/;

/** The store that looks like a key. */
function unquotedStore(at: string): string | undefined {
  return /^memory:\s*(?:[},#]|$)/.test(at)
    ? 'without quotes "memory:" is read as a key; write it with the quotes'
    : undefined;
}

/** The key as it is written. */
function keyAt(text: string, offset: number): string {
  const [key] = /^(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^:\n]{1,60})/.exec(text.slice(offset, offset + 200)) ?? ['a key'];
  return key.trim();
}

/** Errors of the grammar: of each line the first, as others follow from it. */
export function grammarFaults(errors: readonly YAMLError[], text: string): YamlFault[] {
  const seen = new Set<number>();
  return errors
    .filter(({ code, pos: [offset] }, index) => {
      if (code === 'DUPLICATE_KEY') return true;
      const line = text.lastIndexOf('\n', offset - 1);
      const isFirst = !seen.has(line);
      seen.add(line);
      return isFirst && (index === 0 || code !== 'UNEXPECTED_TOKEN');
    })
    .map(error => grammarFault(error, text));
}

/** An error of the grammar in words of ours, with what to do. */
export function grammarFault({ code, message, pos }: YAMLError, text: string): YamlFault {
  const offset = pos[0];
  if (code === 'DUPLICATE_KEY')
    return { offset, message: `map keys must be unique: ${keyAt(text, offset)} stands twice` };
  if (code === 'MISSING_CHAR' && message.includes('directives-end') && /^%/m.test(text))
    return {
      offset,
      message: 'a line that begins with "%" is for YAML itself; put quotes around text that begins with "%"',
    };
  const [at = ''] = /^.*/.exec(text.slice(offset)) ?? [];
  return { offset, message: GRAMMAR[code]?.(at, message) ?? message.charAt(0).toLowerCase() + message.slice(1) };
}

/**
 * What a document without errors of the grammar says that would silently become another value than the one that was
 * meant: tags that are not understood, text that YAML reads as an alias, an anchor or a map, and keys that are one key
 * of an object, or none.
 */
export function yamlFaults(document: Document.Parsed, text: string): YamlFault[] {
  const faults: YamlFault[] = [];
  const add: Add = (node, message) => {
    if (message !== undefined) faults.push({ offset: node?.range?.[0] ?? 0, message });
  };
  for (const { code, message, pos } of document.warnings)
    if (code === 'BAD_DIRECTIVE' && document.errors.length === 0)
      faults.push({ offset: pos[0], message: `${message}; remove the line` });
  if (document.directives.yaml.explicit && document.directives.yaml.version !== '1.2')
    add(undefined, 'only YAML 1.2 is understood; remove the line "%YAML"');
  visit(document, {
    Alias: (_, alias, path) => checkAlias(alias, path, document, add),
    Value(place, node) {
      const message = tagFault(node);
      if (message !== undefined) faults.push({ offset: tagOffset(text, node.range?.[0] ?? 0), message });
      // What a key is read as is said where its map is looked at.
      if (isScalar(node)) checkScalar(node, place === 'key', add);
      if (isMap(node)) checkMap(node, document, add);
      else if (isScalar(node) && node.anchor !== undefined && node.value === null && node.source === '')
        add(
          node,
          `"&${node.anchor}" is read as the name of an anchor, and nothing follows; put quotes around text that begins with "&"`,
        );
    },
  });
  return faults;
}

/** Blanks of Unicode that look like a blank and are none to YAML (1.2 §5.5). */
const ODD_BLANK = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff]/;

/** Text without quotes that is read as another value than it looks like. */
function checkScalar(scalar: Scalar, isKey: boolean, add: Add): void {
  const { type, source = '', value } = scalar;
  if (type !== Scalar.PLAIN) return;
  const odd = ODD_BLANK.exec(source)?.[0];
  if (odd !== undefined) {
    const code = `U+${odd.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
    add(
      scalar,
      `a blank here is none to YAML (${code}, often from a web page); write an ordinary one, or put quotes around the text`,
    );
  }
  if (typeof value !== 'number' || isKey) return;
  if (/^[-+]?0\d/.test(source))
    add(
      scalar,
      `${source} is read as ${value}, and by other readers as an octal number; write ${value}, or the mode of a file in quotes: '${source}'`,
    );
  else add(scalar, inexactFault(scalar));
}

/** Why a number is not the one that stands there, in JSON as well. */
export function inexactFault({ source = '', value }: Scalar): string | undefined {
  if (typeof value !== 'number' || !isInexact(source, value)) return undefined;
  return `${source} is read as ${value}: above ${Number.MAX_SAFE_INTEGER} not every number can be held; write a smaller one, or put quotes around text`;
}

/** A whole number that would be rounded, or any that is taken for infinite. */
function isInexact(source: string, value: number): boolean {
  if (!/\d/.test(source)) return false;
  return !Number.isFinite(value) || (/^[-+]?\d+$/.test(source) && !Number.isSafeInteger(value));
}

type Add = (node: Node | undefined, message: string | undefined) => void;

/** Where the tag of a node stands, which begins at the offset: before it, perhaps with an anchor between. */
function tagOffset(text: string, start: number): number {
  return /!\S*\s*(?:&\S+\s*)?$/.exec(text.slice(0, start))?.index ?? start;
}

function tagFault(node: Node): string | undefined {
  const { tag } = node as { tag?: string };
  // `!` alone says that it is text.
  if (tag === undefined || tag === '!') return undefined;
  const short = tag.startsWith(CORE) ? `!!${tag.slice(CORE.length)}` : tag;
  const holds = CORE_TAGS[tag];
  if (holds) {
    const value = isScalar(node) ? node.value : undefined;
    return holds(value) || !isScalar(node)
      ? undefined
      : `${JSON.stringify(String(node.source ?? value))} is not what the tag "${short}" says; correct one of the two`;
  }
  const environment = /env/i.test(tag) ? ', or ${NAME} for a variable of the environment' : '';
  return `the tag "${short}" is not understood; write the value itself${environment}; put quotes around text that begins with "!"`;
}

function checkAlias(alias: Alias, path: readonly unknown[], document: Document.Parsed, add: Add): void {
  const target = alias.resolve(document);
  if (alias.source === '') return; // no name: the grammar says so
  if (target === undefined)
    add(
      alias,
      `"*${alias.source}" is read as an alias, and no anchor "&${alias.source}" stands before it; put quotes around text that begins with "*"`,
    );
  else if (path.includes(target)) add(alias, `"*${alias.source}" stands inside what it names`);
}

function checkMap(map: YAMLMap, document: Document.Parsed, add: Add): void {
  const seen = new Map<string, { name: unknown; isAlias: boolean }>();
  let isTextLike = false;
  let isMerged = false;
  for (const pair of map.items) {
    const key = pair.key as Node | null;
    const value = pair.value as Node | null;
    if (isMergeKey(key)) {
      if (isMerged)
        add(key ?? undefined, '"<<" stands twice, and other readers refuse that; write one: "<<: [*a, *b]"');
      isMerged = true;
      if (!isMergeable(value, document))
        add(value ?? key ?? undefined, '"<<" takes keys and values, or a list of them');
      continue;
    }
    const plain = isAlias(key) ? key.resolve(document) : key;
    if (isAlias(key) && plain === undefined) continue; // it is reported as an alias
    const message = keyFault(plain);
    if (message !== undefined) {
      add((key as Node | null) ?? map, message);
      continue;
    }
    const { value: name } = plain as Scalar;
    const earlier = seen.get(String(name));
    // The reader itself finds keys that are equal as they stand there.
    if (earlier && (earlier.name !== name || earlier.isAlias || isAlias(key))) {
      const [now, before] = [name, earlier.name].map(one => JSON.stringify(one));
      add(key ?? undefined, `map keys must be unique: ${now} is the same key as ${before}`);
    }
    seen.set(String(name), { name, isAlias: isAlias(key) });
    isTextLike ||= map.flow === true && map.tag === undefined && value === null;
  }
  if (isTextLike)
    add(map, 'this is read as keys and values, and a key has no value; put quotes around text that begins with "{"');
}

function keyFault(key: Node | null | undefined): string | undefined {
  if (isCollection(key)) return `a key is text, not ${isMap(key) ? 'keys and values' : 'a list'}`;
  if (!isScalar(key) || (key.value === null && !key.source)) return 'a key is missing before ":"';
  if (key.value === '__proto__') return '"__proto__" cannot be a key';
  if (typeof key.value === 'string' || String(key.value) === key.source) {
    return key.value === null ? `the key ${key.source} is read as nothing; put quotes around it` : undefined;
  }
  return `the key ${key.source} is read as ${key.value === null ? 'nothing' : String(key.value)}; put quotes around it`;
}

/** The reader gives it a symbol for a value, so that it is not the text "<<". */
function isMergeKey(key: Node | null): boolean {
  return isScalar(key) && (typeof key.value === 'symbol' || (key.value === '<<' && key.type === Scalar.PLAIN));
}

function isMergeable(value: unknown, document: Document.Parsed): boolean {
  if (isAlias(value)) {
    const target = value.resolve(document);
    return target === undefined || isMap(target); // what is not there is reported as an alias
  }
  return (
    isMap(value) ||
    (isSeq(value) && value.items.every(item => !isPair(item) && !isSeq(item) && isMergeable(item, document)))
  );
}
