"""`python -m rcnn_v1`: see `make rcnn`."""

# Imports stay inside: selective search's worker processes import this file again, and must
# not load torch with it.
if __name__ == "__main__":
    from stages.threads import wait_briefly

    wait_briefly()
    from stages.run import main

    def command(arguments: list[str]) -> None:
        from rcnn_v1.command import command  # takes seconds, in which Ctrl-C is heard

        command(arguments)

    main(command)
