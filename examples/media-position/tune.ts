const SAMPLES_PER_SECOND = 8_000;
const SECONDS = 60;
const HEADER_BYTES = 44;

/** A minute of sound whose pitch climbs, so that one hears where it is: a WAV file, mono, 8 bits a sample. */
export function makeTune(): Buffer {
  const samples = SAMPLES_PER_SECOND * SECONDS;
  const file = Buffer.alloc(HEADER_BYTES + samples);
  file.write('RIFF', 0, 'latin1');
  file.writeUInt32LE(HEADER_BYTES - 8 + samples, 4);
  file.write('WAVEfmt ', 8, 'latin1');
  file.writeUInt32LE(16, 16); // bytes of what follows up to "data"
  file.writeUInt16LE(1, 20); // not compressed
  file.writeUInt16LE(1, 22); // channels
  file.writeUInt32LE(SAMPLES_PER_SECOND, 24);
  file.writeUInt32LE(SAMPLES_PER_SECOND, 28); // bytes per second
  file.writeUInt16LE(1, 32); // bytes per sample
  file.writeUInt16LE(8, 34); // bits per sample
  file.write('data', 36, 'latin1');
  file.writeUInt32LE(samples, 40);
  let phase = 0;
  for (let sample = 0; sample < samples; sample++) {
    phase += (220 * 2 ** (sample / samples) * 2 * Math.PI) / SAMPLES_PER_SECOND;
    file[HEADER_BYTES + sample] = 128 + Math.round(40 * Math.sin(phase));
  }
  return file;
}
