"""`python -m benchmarks`: see `make bench`."""

if __name__ == "__main__":
    from stages.threads import wait_briefly

    wait_briefly()
    from benchmarks.command import command
    from stages.run import main

    main(command)
