import { parseAst } from 'vite';

/** A test as a source declares it: its title behind those of the describes around it, letter for letter. */
export type TestTitle = readonly string[];

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

interface Declaration {
  readonly of: 'test' | 'describe';
  readonly title: string;
  readonly isSkipped: boolean;
}

/** Of `test.each(rows)('title', …)` only the second call declares a test. */
const MAKES_A_TEST_FUNCTION = new Set(['each', 'for', 'skipIf', 'runIf', 'extend']);

/**
 * The titles of all tests of a source that may run: those of `each` with their placeholders, templates with what stands
 * in their braces.
 */
export function testTitles(source: string): TestTitle[] {
  const found: TestTitle[] = [];
  /** Functions that declare tests by another name, as `const skip = test.skipIf(reason)`, and how they came to be. */
  const others = new Map<string, readonly string[]>();
  const visit = (value: unknown, around: TestTitle): void => {
    if (Array.isArray(value)) for (const part of value) visit(part, around);
    if (!isNode(value)) return;
    if (value.type === 'VariableDeclarator' && isNode(value.init)) {
      const names = namesIn(value.init, others);
      if (isOfTests(names)) others.set((value.id as Node).name as string, names);
    }
    const declared = declaration(value, source, others);
    if (declared?.isSkipped) return;
    if (declared?.of === 'test') found.push([...around, declared.title]);
    const inside = declared?.of === 'describe' ? [...around, declared.title] : around;
    for (const part of Object.values(value)) visit(part, inside);
  };
  visit(parseAst(source, { lang: 'ts' }), []);
  return found;
}

function declaration(node: Node, source: string, others: Map<string, readonly string[]>): Declaration | undefined {
  if (node.type !== 'CallExpression') return undefined;
  const callee = node.callee as Node;
  const names = namesIn(callee, others);
  if (!isOfTests(names)) return undefined;
  if (callee.type === 'MemberExpression' && MAKES_A_TEST_FUNCTION.has(names.at(-1)!)) return undefined;
  const title = text((node.arguments as Node[])[0], source);
  if (title === undefined) return undefined;
  return { of: names[0], title, isSkipped: names.includes('skip') || names.includes('todo') };
}

function isOfTests(names: readonly string[]): names is ['test' | 'describe', ...string[]] {
  return names[0] === 'test' || names[0] === 'describe';
}

/** `test.concurrent.each(rows)` is test, concurrent, each. */
function namesIn(node: Node, others: Map<string, readonly string[]>): readonly string[] {
  if (node.type === 'Identifier') return others.get(node.name as string) ?? [node.name as string];
  if (node.type === 'CallExpression') return namesIn(node.callee as Node, others);
  if (node.type === 'TaggedTemplateExpression') return namesIn(node.tag as Node, others);
  if (node.type !== 'MemberExpression') return [node.type];
  return [...namesIn(node.object as Node, others), (node.property as Node).name as string];
}

function text(node: Node | undefined, source: string): string | undefined {
  if (node?.type === 'Literal' && typeof node.value === 'string') return node.value;
  if (node?.type === 'TemplateLiteral') return source.slice(node.start + 1, node.end - 1);
  // `reason ?? 'title'`: the reason is shown where the test is skipped for it.
  if (node?.type === 'LogicalExpression' && node.operator === '??') return text(node.right as Node, source);
  return undefined;
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value;
}
