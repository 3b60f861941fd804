"""`python -m mask_rcnn`: see `make mask`."""

# Imports stay inside: worker processes import this file again, and must not load torch with it.
if __name__ == "__main__":
    from stages.threads import wait_briefly

    wait_briefly()
    from stages.run import main

    def command(arguments: list[str]) -> None:
        from mask_rcnn.command import command  # takes seconds, in which Ctrl-C is heard

        command(arguments)

    main(command)
