// Writes `docs/reference/admin-api.json`: what the admin API serves as /openapi.json, for programs that are made from it.
import { writeFileSync } from 'node:fs';
import { openApiDocument } from '../src/admin/openapi.ts';

/** The text of `docs/reference/admin-api.json`. */
export function adminApiText(): string {
  return `${JSON.stringify(openApiDocument(), undefined, 2)}\n`;
}

if (import.meta.main) writeFileSync(new URL('../docs/reference/admin-api.json', import.meta.url), adminApiText());
