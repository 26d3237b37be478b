import type * as z from 'zod';
import { authScheme, SCHEMES } from './auth-schema.ts';

type Schema = z.core.$ZodType;

/** What a value of this schema may be: texts, objects and so on, without what is wrapped around them. */
export function alternativesOf(schema: Schema): Schema[] {
  if ((schema as unknown) === authScheme) return Object.values(SCHEMES).flatMap(alternativesOf);
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case 'optional':
    case 'nullable':
    case 'nonoptional':
    case 'default':
    case 'prefault':
    case 'catch':
    case 'readonly':
      return alternativesOf(def.innerType);
    case 'pipe':
      return [def.in, def.out].flatMap(alternativesOf);
    case 'lazy':
      return alternativesOf(def.getter());
    case 'union':
      return def.options.flatMap(alternativesOf);
    default:
      return [schema];
  }
}

/** Those of what an object has under a key. None: the schema does not know it. */
export function alternativesAt(alternatives: readonly Schema[], key: string): Schema[] {
  return alternatives.flatMap(each => {
    const { def } = (each as z.core.$ZodTypes)._zod;
    if (def.type === 'object') return Object.hasOwn(def.shape, key) ? alternativesOf(def.shape[key]!) : [];
    return def.type === 'record' ? alternativesOf(def.valueType) : [];
  });
}

/** Those of the entries of a list. */
export function alternativesOfEntries(alternatives: readonly Schema[]): Schema[] {
  return alternatives.flatMap(each => {
    const { def } = (each as z.core.$ZodTypes)._zod;
    return def.type === 'array' ? alternativesOf(def.element) : [];
  });
}
