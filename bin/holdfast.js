#!/usr/bin/env node
import './require-node.js';

await import('./compile-cache.js');
await import('#cli');
