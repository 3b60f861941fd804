"""`python -m benchmarks`: see `make bench`."""

if __name__ == "__main__":
    import sys

    from stages.threads import wait_briefly

    wait_briefly()
    from benchmarks.command import command
    from stages.run import GO_ON, main

    # Only the rivals' trainings have checkpoints.
    trains = sys.argv[1:2] in (["rival"], ["yolov3"])
    main(command, GO_ON if trains else "what was written so far is there")
