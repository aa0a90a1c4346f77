"""What training needs: model, augment, batches, learner, schedule, predict."""
