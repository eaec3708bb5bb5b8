"""What everything else stands on: errors, failures, keys, schemas, storage, scrubbing. Imports nothing of ours."""
