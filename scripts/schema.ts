// Writes `holdfast.schema.json`, the JSON Schema of configurations in files, for editors: made from the schema that reads
// them, with the doc comments of the interfaces that it is for.
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { authScheme, SCHEMES } from '../src/config/auth-schema.ts';
import { configSchema } from '../src/config/schema.ts';
import { MEMBER, proseOf } from './docs.ts';

const root = new URL('..', import.meta.url);

type Json = z.core.JSONSchema.BaseSchema;

/** A number or a truth value may come from the environment. */
const VARIABLE: Json = { type: 'string', pattern: '\\$\\{' };

/** The text of `holdfast.schema.json`. */
export function schemaText(): string {
  const documents = interfaces();
  const schema = jsonSchema(configSchema, documents);
  Object.assign(schema, {
    title: 'A configuration of Holdfast',
    patternProperties: { '^x-': {} },
    properties: {
      $schema: { type: 'string' },
      include: {
        description: 'Files and globs whose lists and keys are added to those of this file, relative to it.',
        anyOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }],
      },
      ...schema.properties,
    },
  });
  return `${JSON.stringify(schema, undefined, 1)}\n`;
}

function jsonSchema(of: z.ZodType, documents: Documents): Json {
  return z.toJSONSchema(of, {
    io: 'input',
    unrepresentable: 'any',
    // The one that editors know best.
    target: 'draft-7',
    override({ zodSchema, jsonSchema: json }) {
      const { type } = zodSchema._zod.def;
      if (type === 'number' || type === 'boolean') become(json, { anyOf: [{ ...json }, VARIABLE] });
      // Only a program has such a thing as an endpoint.
      else if (type === 'custom') become(json, { not: {} });
      else if ((zodSchema as unknown) === authScheme)
        become(json, { anyOf: Object.values(SCHEMES).map(scheme => withoutDialect(jsonSchema(scheme, documents))) });
      else if (json.type === 'object' && json.title !== undefined) describe(json, documents);
    },
  });
}

/** Zod keeps the object. */
function become(json: Json, other: Json): void {
  for (const key of Object.keys(json)) delete (json as Record<string, unknown>)[key];
  Object.assign(json, other);
}

function withoutDialect({ $schema: _, ...json }: Json): Json {
  return json;
}

/** Doc comments, by the title of a section and by key. Several sections may have one title. */
type Documents = ReadonlyMap<string, readonly ReadonlyMap<string, string>[]>;

function describe(section: Json, documents: Documents): void {
  const properties = Object.entries(section.properties ?? {}) as [string, Json][];
  const members = documents.get(section.title!)?.find(of => properties.every(([key]) => of.has(key)));
  for (const [key, property] of properties) {
    const description = members?.get(key);
    if (description) property.description = description;
  }
}

function interfaces(): Documents {
  const sources = globSync('src/**/*.ts', { cwd: root }).map(file => readFileSync(new URL(file, root), 'utf8'));
  const bodies = new Map<string, { bases: string[]; members: Map<string, string> }>();
  for (const source of sources)
    for (const [, name, bases = '', body] of source.matchAll(
      /^(?:export )?interface (\w+)(?:<[^>]*>)?(?: extends ([^{]*?))? \{\n([\s\S]*?)^\}/gm,
    )) {
      const members = [...body!.matchAll(MEMBER)].map(([, comment = '', key]) => [key!, proseOf(comment)] as const);
      bodies.set(name!, { bases: bases.match(/\b[A-Z]\w+/g) ?? [], members: new Map(members) });
    }
  const membersOf = (name: string): Map<string, string> => {
    const { bases = [], members = new Map<string, string>() } = bodies.get(name) ?? {};
    return new Map([...bases.flatMap(base => [...membersOf(base)]), ...members]);
  };
  const documents = new Map<string, ReadonlyMap<string, string>[]>();
  for (const source of sources)
    for (const [, type, title] of source.matchAll(/section<(\w+)>\(\s*'([^']+)'/g))
      documents.set(title!, [...(documents.get(title!) ?? []), membersOf(type!)]);
  return documents;
}

if (import.meta.main) writeFileSync(new URL('holdfast.schema.json', root), schemaText());
