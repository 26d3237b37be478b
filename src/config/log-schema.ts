import * as z from 'zod';
import { LOG_PARTS, type LogPart, type LogThreshold } from '../base/logger.ts';
import { nearestName } from '../base/nearest-name.ts';
import { parseLogFormat } from '../http/log-format.ts';
import type { AccessLogConfig, LogConfig, LogDestination, SecurityLogConfig } from './config.ts';
import { section, text } from './schema-parts.ts';

const level = z.enum(['debug', 'info', 'warn', 'error', 'silent']);
const output = z.enum(['stdout', 'stderr']);

/** A destination is one place: which of two is meant, nobody can know. */
function onePlace<T extends { to?: unknown; file?: unknown }>(destination: z.ZodType<T>): z.ZodType<T> {
  return destination.refine(({ to, file }) => to === undefined || file === undefined, {
    error: 'has "to" and "file"; a destination is one of them: write two',
  });
}

/** What a format is called, or the text of one. */
function formatText(names: readonly string[]): z.ZodType<string> {
  return z.string().superRefine((value, context) => {
    if (names.includes(value)) return;
    if (!value.includes('%')) {
      const near = nearestName(value, names);
      const remedy = near
        ? `did you mean "${near}"?`
        : `write ${names.join(', ')}, or a LogFormat such as '%h %t "%r" %>s'`;
      context.addIssue({ code: 'custom', message: `${JSON.stringify(value)} is not a format; ${remedy}` });
      return;
    }
    try {
      parseLogFormat(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
    }
  });
}

const serverDestination = onePlace(
  section<LogDestination>('a destination of the log', {
    to: output.optional(),
    file: text.optional(),
    format: z.enum(['json', 'pretty']).optional(),
    level: level.optional(),
  }),
);
const accessDestination = onePlace(
  section<AccessLogConfig>('a destination of the access log', {
    format: formatText(['combined', 'json']).optional(),
    to: output.optional(),
    file: text.optional(),
    level: level.optional(),
  }),
);
const securityDestination = onePlace(
  section<SecurityLogConfig>('a destination of security events', {
    to: output.optional(),
    file: text.optional(),
    level: level.optional(),
  }),
);

const levels = section<Record<LogPart, LogThreshold>>(
  'levels',
  Object.fromEntries(LOG_PARTS.map(part => [part, level.optional()])) as never,
) as unknown as z.ZodType<Partial<Record<LogPart, LogThreshold>>>;

export const logSchema: z.ZodType<LogConfig> = section<LogConfig>('log', {
  level: level.optional(),
  levels: levels.optional(),
  server: z
    .union([output, serverDestination, z.array(serverDestination).min(1)], {
      error: 'expected "stdout", "stderr", { file: PATH }, or a list of destinations',
    })
    .optional(),
  access: z
    .union([formatText(['json', 'combined', 'off']), accessDestination, z.array(accessDestination).min(1)], {
      error: 'expected "json", "combined", "off", a LogFormat, { format: …, file: PATH }, or a list of destinations',
    })
    .optional(),
  security: z
    .union([z.enum(['log', 'stdout']), securityDestination, z.array(securityDestination).min(1)], {
      error: 'expected "log", "stdout", { file: PATH }, or a list of destinations',
    })
    .optional(),
});
