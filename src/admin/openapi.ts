import * as z from 'zod';
import { type AdminRoute, adminRoutes } from './routes.ts';
import * as shapes from './shapes.ts';

/** Of the API, not of the package: it changes when a program that was written for it would have to. */
const API_VERSION = '1.0.0';

const ERRORS: Readonly<Record<number, string>> = {
  400: 'The request has something in it that cannot be, or cannot be understood.',
  401: 'No token, or a wrong one.',
  403: 'A host name that is not served here, a page of another site, or a banned client.',
  404: 'There is no such thing.',
  409: 'The first characters of a sid fit several sessions.',
  413: 'The body is too large.',
  500: 'It failed; the log of the server says why.',
  501: 'This server cannot do that.',
  503: 'Too much is under way, or what is asked for does not answer.',
};

/**
 * The OpenAPI 3.1 document of the admin API, made of its routes and their schemas.
 *
 * @see https://spec.openapis.org/oas/v3.1.1
 */
export function openApiDocument(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of adminRoutes) {
    const path = (paths[route.path] ??= {});
    path[route.method.toLowerCase()] = operationOf(route);
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'Holdfast admin API',
      version: API_VERSION,
      description: 'What a running Holdfast server says of itself, and what can be changed while it runs.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: 'http://127.0.0.1:9901' }],
    security: [{ token: [] }],
    tags: [],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: { Failure: schemaOf(shapes.failure, 'output') },
      responses: Object.fromEntries(
        Object.entries(ERRORS).map(([status, description]) => [
          `Error${status}`,
          { description, content: { 'application/json': { schema: { $ref: '#/components/schemas/Failure' } } } },
        ]),
      ),
    },
  };
}

function operationOf(route: AdminRoute): Record<string, unknown> {
  return {
    operationId: route.id,
    summary: route.summary,
    ...(route.isOpen && { security: [] }),
    parameters: [...pathParameters(route.path), ...queryParameters(route.query)],
    ...(route.body && {
      requestBody: { required: true, content: { 'application/json': { schema: schemaOf(route.body, 'input') } } },
    }),
    responses: { 200: answerOf(route), ...errorsOf(route), ...otherAnswers(route) },
  };
}

function answerOf(route: AdminRoute): Record<string, unknown> {
  switch (route.kind) {
    case 'json':
      return { description: 'Done.', content: { 'application/json': { schema: schemaOf(route.answer, 'output') } } };
    case 'text':
      return { description: 'Text.', content: { 'text/plain': { schema: { type: 'string' } } } };
    case 'lines':
      return {
        description:
          'One JSON object a line. `{ "lost": n }` stands where n lines are missing; `{ "ended": why }` is the last line of a stream that ends although the server runs on.',
        content: { 'application/x-ndjson': { schema: { type: 'string' } } },
      };
  }
}

function otherAnswers(route: AdminRoute): Record<string, unknown> {
  if (route.kind !== 'json') return {};
  const content = { 'application/json': { schema: schemaOf(route.answer, 'output') } };
  const others = Object.entries(route.otherStatuses ?? {});
  return Object.fromEntries(others.map(([status, description]) => [status, { description, content }]));
}

function errorsOf({ isOpen, query, body, path }: AdminRoute): Record<string, unknown> {
  const statuses = [
    400,
    ...(isOpen ? [] : [401]),
    403,
    ...(path.includes('{') || path === '/metrics' || query ? [404] : []),
    ...(path.includes('{sid}') ? [409] : []),
    ...(body ? [413] : []),
    ...[500, 501, 503],
  ];
  return Object.fromEntries(statuses.map(status => [status, { $ref: `#/components/responses/Error${status}` }]));
}

function pathParameters(path: string): object[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string', minLength: 1 },
  }));
}

function queryParameters(query: z.ZodType | undefined): object[] {
  if (!query) return [];
  const { properties = {}, required = [] } = schemaOf(query, 'input') as {
    properties?: Record<string, { description?: string }>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    ...(description !== undefined && { description }),
    schema,
  }));
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Record<string, unknown> {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: 'any', reused: 'inline' });
  return rest;
}
