import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

export interface Device {
  readonly device: string;
  readonly sid: string;
}

/** Which session is which device's, for those who look at all of them. The sid is a name and opens nothing. */
export class Devices {
  readonly #insert: StatementSync;
  readonly #delete: StatementSync;
  readonly #select: StatementSync;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    const database = new DatabaseSync(path);
    database.exec(`
      pragma journal_mode = wal;
      create table if not exists device (device text primary key, sid text);
    `);
    this.#insert = database.prepare('insert or replace into device (device, sid) values (?, ?)');
    this.#delete = database.prepare('delete from device where device = ? and sid = ?');
    this.#select = database.prepare('select device, sid from device order by device');
  }

  add(device: string, sid: string): void {
    this.#insert.run(device, sid);
  }

  remove(device: string, sid: string): void {
    this.#delete.run(device, sid);
  }

  all(): Device[] {
    return this.#select.all() as unknown as Device[];
  }
}
