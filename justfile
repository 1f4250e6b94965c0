# Shortcuts; every recipe is one plain command that also works without `just`.

# The main job, end to end.
demo:
    cargo demo

# All tests.
test:
    cargo test --workspace

# What must pass before anything lands.
ci:
    .ci/run

# Format, then look.
lint:
    cargo fmt --all
    cargo clippy --workspace --all-targets

# Build the program and commit its artifact's source hash.
program:
    programs/tallybook/artifact/build.sh

# Measure what the README says, and write benches/report.
bench:
    benches/run.sh
