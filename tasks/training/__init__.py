"""The training loop and the losses towards a teacher."""
