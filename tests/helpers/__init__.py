"""What tests share: made-up data, runs, films and folders of data sets, roads through the stages, commands that are killed."""
