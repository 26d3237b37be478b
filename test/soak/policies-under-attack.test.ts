import { describe } from 'vitest';
import { underAttack } from '../attack/under-attack.ts';

describe('while somebody attacks for a minute each, others go on', () => underAttack(60_000));
