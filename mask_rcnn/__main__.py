"""`python -m mask_rcnn`: see `make mask`."""

# Imports stay inside: worker processes import this file again, and must not load torch with it.
if __name__ == "__main__":
    from stages.threads import wait_briefly

    wait_briefly()
    from mask_rcnn.command import command
    from stages.run import main

    main(command)
